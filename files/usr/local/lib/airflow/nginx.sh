#!/bin/sh
# nginx.sh check|apply URL...: nginx is enabled, runs with its inputs as they are, and serves the site
# airflow: once it has the site, it answers each URL with 404 by itself.
# Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
unit=nginx.service

# Does nginx answer each URL with 404?
is_served() {
    for url; do
        code=$(curl -ks --noproxy '*' -m 5 -o /dev/null -w '%{http_code}' "$url")
        test "$code" = 404 || return 1
    done
}

check() {
    systemctl is-enabled --quiet "$unit" 2>/dev/null || fail "$unit is not enabled"
    check_unit "$unit"
    is_served "$@" || fail "nginx does not serve its site airflow"
}

apply() {
    nginx -t -q || exit
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    systemctl reload-or-restart "$unit" || exit
    # A reload is asynchronous, and one that finds no free port fails in silence.
    for _ in $(seq 50); do
        is_served "$@" && return
        sleep 0.2
    done
    fail "nginx does not serve its site airflow: look at journalctl -t nginx"
}

[ $# -ge 2 ] || usage
action=$1
shift
case $action in
check) check "$@" ;;
apply) apply "$@" ;;
*) usage ;;
esac
