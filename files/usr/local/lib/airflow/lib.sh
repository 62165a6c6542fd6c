#!/bin/sh
# Shared by the programs beside it: each begins with ". /usr/local/lib/airflow/lib.sh", which reads
# the values of this host and defines the functions below.
# In tests, AIRFLOW_HOST_ENV names another file of values.

# shellcheck disable=SC1090
. "${AIRFLOW_HOST_ENV:-/etc/airflow/host.env}"

# A program does the same whoever calls it: the deploy, a unit, or a person with a umask, a language
# or a proxy of their own. tasks/lib/shell.py does this for the deploy's other commands.
umask 022
export LC_ALL=C.UTF-8
unset http_proxy https_proxy ftp_proxy all_proxy no_proxy
unset HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY
if [ -n "${PROXY_URL-}" ]; then
    export http_proxy="$PROXY_URL" https_proxy="$PROXY_URL" no_proxy="$PROXY_EXCEPTIONS"
    export HTTP_PROXY="$PROXY_URL" HTTPS_PROXY="$PROXY_URL" NO_PROXY="$PROXY_EXCEPTIONS"
fi
# Debian's programs of PostgreSQL otherwise choose among several clusters by their ports.
unset PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS
export PGCLUSTER
# /tmp may forbid programs (noexec), and others can see the names in it.
if [ "$(id -u)" = 0 ] && [ -w "${TEMPORARY-}" ]; then export TMPDIR="$TEMPORARY"; fi

# Say what is wrong, and end.
fail() {
    echo "$*" >&2
    exit 1
}

# Take the deploy's lock as descriptor 9 until this process and its children end. Fails if a deploy
# holds it. The first process creates the file; tasks/lib/lock.py does the same for the deploy.
take_lock() {
    [ -e "$DEPLOY_LOCK" ] || (umask 0 && : >"$DEPLOY_LOCK")
    exec 9<"$DEPLOY_LOCK"
    flock -w 3 9
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
