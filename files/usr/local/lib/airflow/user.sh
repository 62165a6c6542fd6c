#!/bin/sh
# user.sh check|apply NAME: the web page has the user NAME, who is made with the role Admin and the
# password in ADMIN_PASSWORD. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage

case $1 in
check)
    found=$(
        runuser -u "$DATABASE" -- env PGOPTIONS='-c search_path=pg_catalog' \
            psql -XAtqd "$DATABASE" -c "select 1 from public.ab_user where username = '$2'"
    ) || fail "the database does not tell its users"
    [ "$found" = 1 ] || fail "the web page has no user $2"
    ;;
apply)
    # The command asks for the password twice. It comes from the file, since every user of the host
    # can read arguments; setsid takes away the terminal that the command would ask on.
    cat "$ADMIN_PASSWORD" "$ADMIN_PASSWORD" |
        setsid --wait "$RUN" airflow users create --username "$2" --role Admin \
            --email "$2@localhost" --firstname "$2" --lastname Airflow >/dev/null
    ;;
*) usage ;;
esac
