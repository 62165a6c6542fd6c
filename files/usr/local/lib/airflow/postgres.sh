#!/bin/sh
# postgres.sh check|apply VERSION: PostgreSQL has loaded its configuration, with a restart if an option
# needs one. PostgreSQL itself knows when it loaded its files, and whether an option waits for a
# restart. In tests, POSTGRES_CONFIG names another folder than /etc/postgresql.
# If it can't work with its new files, the earlier ones come back: accept.sh has kept them. Written
# by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage

# Print PostgreSQL's answer.
ask() {
    runuser -u postgres -- psql -XAtqc "$1"
}

# Is the configuration that PostgreSQL uses younger than each of its files? A file that takes the
# place of another one has a new change time, whatever its modification time is.
is_loaded() {
    # shellcheck disable=SC2086 # names without spaces
    changed=$(stat -c %.6Z $files | sort -n | tail -n 1)
    test "$(ask "select extract(epoch from pg_conf_load_time()) > $changed")" = t
}

# Does no option wait for a restart?
needs_no_restart() {
    test "$(ask 'select count(*) from pg_settings where pending_restart')" = 0
}

# Print the lines of its files that PostgreSQL refuses. An option that waits for a restart is none
# of them.
refused() {
    ask "select format('%s line %s: %s %s', sourcefile, sourceline, name, error)
        from pg_file_settings where error is not null
        and not exists (select from pg_settings s where s.name = pg_file_settings.name and pending_restart)
        union all select format('pg_hba.conf line %s: %s', line_number, error)
        from pg_hba_file_rules where error is not null"
}

check() {
    is_loaded || fail "PostgreSQL has not loaded its files in $folder since they changed"
    needs_no_restart || fail "an option of PostgreSQL waits for a restart"
    # shellcheck disable=SC2086
    [ -z "$(ls $kept 2>/dev/null)" ] || fail "PostgreSQL has not started with its new files in $folder"
}

apply() {
    # A time of change in the future, from a clock that was ahead, would look new until then.
    # shellcheck disable=SC2086
    find $files -newerct now -exec touch {} +
    systemctl reload-or-restart "$unit" || put_back
    # A reload is asynchronous: wait for its end, for at most 10 s.
    for _ in $(seq 100); do
        is_loaded 2>/dev/null && break
        sleep 0.1
    done
    # Without a library that it should load, PostgreSQL starts, and refuses each session.
    said=$(refused) && [ -z "$said" ] || put_back
    # Only options that cannot be reloaded need a restart.
    needs_no_restart || systemctl restart "$unit" || put_back
    is_loaded || put_back
    # shellcheck disable=SC2086
    rm -f $kept
}

put_back() {
    { refused || tail -n 5 "/var/log/postgresql/postgresql-$version-main.log"; } >&2 2>/dev/null
    for each in $files; do
        [ ! -e "$each.before" ] || mv "$each.before" "$each"
    done
    systemctl reload-or-restart "$unit"
    fail "PostgreSQL can't work with its new files in $folder, see above why; the earlier ones are back"
}

version=$2
folder=${POSTGRES_CONFIG:-/etc/postgresql}/$version/main
unit=postgresql@$version-main
files="$folder/conf.d/airflow.conf $folder/pg_hba.conf $(ls "$folder/airflow.pem" 2>/dev/null)"
kept="$folder/conf.d/airflow.conf.before $folder/pg_hba.conf.before"
case $1 in
check) check ;;
apply) apply ;;
*) usage ;;
esac
