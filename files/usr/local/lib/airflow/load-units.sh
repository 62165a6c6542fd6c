#!/bin/sh
# load-units.sh check|apply services|timers: systemd has read the deploy's units as they are on the
# disk. It starts Airflow's services, or its timers, with Airflow; and the timers are started.
# Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage

check() {
    # A unit that systemd has not read at all needs no second reading. A pattern leaves out units that
    # are stopped, as all are in an upgrade, unless it is asked for all.
    systemctl show --all -P NeedDaemonReload 'airflow*' minikube.service | grep -qx yes &&
        fail "systemd has not read the units as they are on the disk: systemctl daemon-reload"
    for name in $names; do
        found=$(systemctl is-enabled "$name" 2>/dev/null)
        [ "$found" = enabled ] || fail "$name is not enabled"
        [ -n "$now" ] || continue
        found=$(systemctl is-active "$name")
        [ "$found" = active ] || fail "$name is $found"
    done
}

apply() {
    systemctl daemon-reload
    # shellcheck disable=SC2086 # these are words of lists
    systemctl enable --quiet $now $names
}

now=
# shellcheck disable=SC2153 # the values of the host
case $2 in
services) names="$UNITS airflow-web.socket" ;;
timers)
    # Only those that the deploy installed.
    names=$(sed -n 's/^[0-9a-f]\{64\}  \(.*\.timer\)$/\1/p' "$UNITS_RECORD") || exit
    now=--now
    ;;
*) usage ;;
esac
case $1 in
check) check ;;
apply) apply ;;
*) usage ;;
esac
