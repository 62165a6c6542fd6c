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
# holds it. The first process creates the file; tasks/lib/lock.py does the same for the deploy.
take_lock() {
    [ -e "$DEPLOY_LOCK" ] || (umask 0 && : >"$DEPLOY_LOCK")
    exec 9<"$DEPLOY_LOCK"
    flock -w 3 9
}

# Print the checksum of the standard input that only a host with BACKUP_KEY can make (HMAC). The key
# is in no argument.
backup_mac() {
    python3 -c "import hmac, sys; key = open('$BACKUP_KEY', 'rb').read().strip(); \
print(hmac.new(key, sys.stdin.buffer.read(), 'sha256').hexdigest())"
}

# Print the backups of one kind, the newest first, by the time in their names: the time of a file
# changes with each copy. BEFORE-upgrade-pending, of an upgrade that is under way, is the newest.
backups() { # KIND
    find "$BACKUPS" -maxdepth 1 -name "$1-*.tar*" | sed -n 's/^.*-\([0-9]\{8\}T[0-9]\{6\}Z\|pending\)\.tar\(\.age\)\?$/\1 &/p' |
        LC_ALL=C sort -r | cut -d' ' -f2-
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
