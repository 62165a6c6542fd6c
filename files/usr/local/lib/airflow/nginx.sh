#!/bin/sh
# Make nginx serve the site airflow. Once nginx has the site, it answers each URL that is given with
# 404 by itself.
set -u
unit=nginx.service

# Does nginx answer each URL with 404?
is_served() {
    for url; do
        code=$(curl -ks --noproxy '*' -m 5 -o /dev/null -w '%{http_code}' "$url")
        test "$code" = 404 || return 1
    done
}

check() {
    systemctl is-enabled --quiet "$unit" 2>/dev/null &&
        test "$(systemctl is-active "$unit")" = active &&
        sha256sum --check --status "/run/airflow/$unit" 2>/dev/null &&
        is_served "$@" && return
    echo "nginx is not enabled, runs with other inputs, or does not serve its site airflow" >&2
    return 1
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
    echo "nginx does not serve its site airflow: look at journalctl -t nginx" >&2
    return 1
}

usage() {
    echo "usage: nginx.sh check|apply URL..." >&2
    exit 2
}

test $# -ge 2 || usage
action=$1
shift
case "$action" in
check) check "$@" ;;
apply) apply "$@" ;;
*) usage ;;
esac
