#!/bin/sh
# nginx.sh check|apply LISTENING URL...: nginx is enabled, runs with its inputs as they are, and serves
# the site airflow: it listens at the addresses LISTENING (as ss shows them, with commas), and once it
# has the site, it answers each URL with 404 by itself.
# Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -ge 3 ] || usage
action=$1 listening=$2
shift 2
unit=nginx.service

# Does nginx answer each URL with 404?
is_served() {
    for url; do
        code=$(curl -ks --noproxy '*' -m 5 -o /dev/null -w '%{http_code}' "$url")
        test "$code" = 404 || return 1
    done
}

# Print the site's addresses whose port is in use at another address only.
moved() {
    now=$(ss -Hltn | awk '{ print $4 }')
    echo "$listening" | tr , '\n' | while read -r address; do
        echo "$now" | grep -qxF "$address" && continue
        ! echo "$now" | grep -q ":${address##*:}\$" || echo "$address"
    done
}

# Print an error in nginx's site or its addresses, if there is one.
wrong() {
    is_served "$@" || { echo "does not serve its site airflow" && return; }
    elsewhere=$(moved | paste -sd,)
    [ -z "$elsewhere" ] || echo "does not listen at $elsewhere"
}

check() {
    systemctl is-enabled --quiet "$unit" 2>/dev/null || fail "$unit is not enabled"
    check_unit "$unit"
    problem=$(wrong "$@")
    [ -z "$problem" ] || fail "nginx $problem"
}

apply() {
    nginx -t -q || exit
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    # After a reload, the earlier socket would block one at another address.
    how=reload-or-restart
    [ -z "$(moved)" ] || how=restart
    systemctl $how "$unit" || exit
    # A reload is asynchronous, and one that finds no free port fails in silence.
    for _ in $(seq 50); do
        problem=$(wrong "$@")
        [ -n "$problem" ] || return 0
        sleep 0.2
    done
    fail "nginx $problem: look at journalctl -t nginx"
}

case $action in
check) check "$@" ;;
apply) apply "$@" ;;
*) usage ;;
esac
