#!/bin/sh
# Shared by the programs beside it: each begins with ". /usr/local/lib/airflow/lib.sh", which reads
# the values of this host and defines the functions below.
# In tests, AIRFLOW_HOST_ENV names another file of values.

# shellcheck disable=SC1090
. "${AIRFLOW_HOST_ENV:-/etc/airflow/host.env}"

# Say what is wrong, and end.
fail() {
    echo "$*" >&2
    exit 1
}

# Take the deploy's lock as descriptor 9 until this process and its children end. Fails if a deploy
# holds it. tasks/lib/lock.py takes it for the deploy.
take_lock() {
    install -d -m 700 "${DEPLOY_LOCK%/*}"
    exec 9>>"$DEPLOY_LOCK"
    flock -w 3 9 && echo "${0##*/} on the host" >"$DEPLOY_LOCK"
}

# uv, which installs Python packages. It trusts the host's certificates, so also an organisation's
# own authority, and it copies files, so no virtual environment shares its content with a cache.
uv() {
    UV_SYSTEM_CERTS=true UV_LINK_MODE=copy UV_NO_PROGRESS=true "$UV/bin/uv" "$@"
}

# kubectl in Airflow's namespace, with the rights of the deploy.
kube() {
    $KUBECTL -n "$NAMESPACE" "$@"
}
