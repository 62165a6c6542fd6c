#!/bin/sh
# user.sh check|apply NAME ROLE PASSWORD [MADE]: the web page has the user NAME, who is made with
# ROLE and the password in the file PASSWORD. The file MADE lists users that were made once: one that
# was deleted since is not made again.
# user.sh renew NAME ROLE PASSWORD: the user is there, and its password is that of the file.
# Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 4 ] || [ $# = 5 ] || usage
action=$1 name=$2 role=$3 password=$4 made=${5-}

is_there() {
    found=$(
        "$here/owner.sh" env PGOPTIONS='-c search_path=pg_catalog' \
            psql -XAtqc "select 1 from public.ab_user where username = '$name'"
    ) || fail "the database does not tell its users"
    [ "$found" = 1 ]
}

was_made() {
    [ -n "$made" ] && grep -qsxF -e "$name" "$made"
}

# The command asks for the password twice. It comes from the file, since every user of the host can
# read arguments; setsid takes away the terminal that the command would ask on.
with_password() {
    cat "$password" "$password" | setsid --wait "$RUN" airflow users "$@" --username "$name" >/dev/null
}

create() {
    with_password create --role "$role" --email "$name@localhost" --firstname "$name" \
        --lastname Airflow
}

case $action in
check)
    was_made || {
        is_there || fail "the web page has no user $name"
        [ -z "$made" ] || fail "$made does not say that $name was made"
    }
    ;;
apply)
    was_made || is_there || create
    [ -z "$made" ] || was_made || echo "$name" >>"$made"
    ;;
renew) if is_there; then with_password reset-password; else create; fi ;;
*) usage ;;
esac
