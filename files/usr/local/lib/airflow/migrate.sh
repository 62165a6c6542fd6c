#!/bin/sh
# migrate.sh check|apply VENV [elsewhere]: the database has the schema of the virtual environment VENV.
# MIGRATED records it, with the heads of both schemas, Airflow's own and the login's. With the word
# elsewhere another host has made the schema. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 2 ] || [ "$#,${3-}" = 3,elsewhere ] || usage

heads() {
    "$here/ask-owner.sh" -c \
        "select '$1 ' || a.version_num || ' ' || f.version_num
        from public.alembic_version a, public.alembic_version_fab f"
}

case $1 in
check)
    [ -s "$MIGRATED" ] || fail "the database has no schema yet"
    now=$(heads "$2" 2>/dev/null) || fail "the database does not tell its schema"
    [ "$now" = "$(cat "$MIGRATED")" ] ||
        fail "the schema is that of $(cat "$MIGRATED"), not of $now"
    ;;
apply)
    [ -n "${3-}" ] || "$RUN" airflow db migrate >/dev/null
    heads "$2" >"$MIGRATED.new"
    replace "$MIGRATED"
    ;;
*) usage ;;
esac
