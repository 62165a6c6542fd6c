#!/bin/sh
# metrics.sh check|apply PORT: Debian's exporter for PostgreSQL is enabled, and runs with its inputs
# as they are. apply waits until it answers at PORT. Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
unit=prometheus-postgres-exporter.service
socket=${unit%.service}.socket

check() {
    for each in "$socket" "$unit"; do
        systemctl is-enabled --quiet "$each" 2>/dev/null || fail "$each is not enabled"
    done
    systemctl is-active --quiet "$socket" || fail "$socket is not active"
    check_unit "$unit"
}

# A program that systemd is just starting may hold the earlier port for a moment.
listen() {
    for wait in 2 4 8 0; do
        systemctl start "$socket" && return
        sleep "$wait"
    done
    return 1
}

apply() {
    systemctl daemon-reload
    systemctl enable --quiet "$socket" "$unit"
    # The socket first: a connection would start the service again. An exporter of an earlier deploy
    # has the port itself.
    systemctl stop "$socket" "$unit"
    listen && systemctl start "$unit" || exit
    # A unit that was started may end again at once; one that answers is ready.
    curl -fsS --noproxy '*' -o /dev/null --retry 10 --retry-delay 1 --retry-all-errors \
        "http://127.0.0.1:$1/metrics" && return
    last_words "$unit"
    exit 1
}

case $1 in
check) check ;;
apply) apply "$2" ;;
*) usage ;;
esac
