#!/bin/sh
# user.sh check|apply NAME ROLE PASSWORD [MADE]: the web page has the user NAME, who is made with
# ROLE and the password in the file PASSWORD. With the file MADE it is a person's: MADE lists users
# that were made once, and no later change or deletion is undone. Without it, the user is active and
# has ROLE only.
# user.sh renew NAME ROLE PASSWORD: the user is a new one, with the password of the file.
# Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 4 ] || [ $# = 5 ] || usage
action=$1 name=$2 role=$3 password=$4 made=${5-}

# Print how the user is in the database: nothing, or «active ROLE,...».
state() {
    "$here/ask-owner.sh" -c \
        "select case when u.active then 'active ' else 'inactive ' end
            || coalesce(string_agg(r.name, ',' order by r.name), 'without a role')
        from public.ab_user u
        left join public.ab_user_role l on l.user_id = u.id
        left join public.ab_role r on r.id = l.role_id
        where u.username = '$name' group by u.active" || fail "the database does not tell its users"
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

renew() {
    found=$(state)
    [ -z "$found" ] || "$RUN" airflow users delete --username "$name" >/dev/null
    create
}

case $action in
check)
    was_made || {
        found=$(state)
        [ -n "$found" ] || fail "the web page has no user $name"
        [ -z "$made" ] || fail "$made does not say that $name was made"
        [ "$found" = "active $role" ] || fail "the user $name is $found: it should be active $role"
    }
    ;;
apply)
    if [ -z "$made" ]; then
        renew
    elif ! was_made; then
        found=$(state)
        [ -n "$found" ] || create
        echo "$name" >>"$made"
    fi
    ;;
renew) renew ;;
*) usage ;;
esac
