#!/bin/sh
# postgres.sh check|apply VERSION: PostgreSQL has loaded its configuration, with a restart if an option
# needs one. PostgreSQL itself knows when it loaded its files, and whether an option waits for a
# restart. In tests, POSTGRES_CONFIG names another folder than /etc/postgresql.
# Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"

# Print what PostgreSQL answers.
ask() {
    runuser -u postgres -- psql -XAtqc "$1"
}

# Is the configuration that PostgreSQL uses younger than each of its files?
is_loaded() {
    changed=$(stat -c %.6Y "$folder/conf.d/airflow.conf" "$folder/pg_hba.conf" | sort -n | tail -n 1)
    test "$(ask "select extract(epoch from pg_conf_load_time()) > $changed")" = t
}

# Does no option wait for a restart?
needs_no_restart() {
    test "$(ask 'select count(*) from pg_settings where pending_restart')" = 0
}

check() {
    is_loaded || fail "PostgreSQL has not loaded its files in $folder since they changed"
    needs_no_restart || fail "an option of PostgreSQL waits for a restart"
}

apply() {
    systemctl reload-or-restart "$unit" || exit
    # A reload is asynchronous: wait for its end, for at most 10 s.
    for _ in $(seq 100); do
        is_loaded && break
        sleep 0.1
    done
    # Only options that cannot be reloaded need a restart.
    needs_no_restart || systemctl restart "$unit"
}

folder=${POSTGRES_CONFIG:-/etc/postgresql}/${2-}/main
unit=postgresql@${2-}-main
case "$#,${1-}" in
2,check) check ;;
2,apply) apply ;;
*) usage ;;
esac
