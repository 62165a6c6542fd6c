#!/bin/sh
# metrics.sh check|apply PORT: Debian's exporter for PostgreSQL is enabled, and runs with its inputs
# as they are. apply waits until it answers at PORT. Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
unit=prometheus-postgres-exporter.service

check() {
    systemctl is-enabled --quiet "$unit" 2>/dev/null || fail "$unit is not enabled"
    check_unit "$unit"
}

apply() {
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    systemctl restart "$unit" || exit
    # A unit that was started may end again at once; one that answers is ready.
    curl -fsS --noproxy '*' -o /dev/null --retry 10 --retry-delay 1 --retry-all-errors \
        "http://127.0.0.1:$1/metrics" && return
    journalctl -u "$unit" -n 10 -o cat --no-pager >&2
    exit 1
}

case "${1-} $#" in
"check 2") check ;;
"apply 2") apply "$2" ;;
*) usage ;;
esac
