#!/bin/sh
# Run Debian's exporter for PostgreSQL with its inputs as they are, and wait until it answers.
set -u
unit=prometheus-postgres-exporter.service

check() {
    systemctl is-enabled --quiet "$unit" 2>/dev/null &&
        test "$(systemctl is-active "$unit")" = active &&
        sha256sum --check --status "/run/airflow/$unit" 2>/dev/null && return
    echo "$unit is not enabled, does not run, or was started with other inputs" >&2
    return 1
}

apply() {
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    systemctl restart "$unit" || exit
    # A unit that was started may end again at once; one that answers is ready.
    curl -fsS --noproxy '*' -o /dev/null --retry 10 --retry-delay 1 --retry-all-errors \
        "http://127.0.0.1:$1/metrics" && return
    journalctl -u "$unit" -n 10 -o cat --no-pager >&2
    return 1
}

case "$#,${1-}" in
2,check) check ;;
2,apply) apply "$2" ;;
*)
    echo "usage: metrics.sh check|apply PORT" >&2
    exit 2
    ;;
esac
