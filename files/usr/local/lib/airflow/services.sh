#!/bin/sh
# services.sh check|apply: Airflow's services run on this host with their inputs as they are now, and are
# healthy. apply restarts those that do not, and waits for their health for up to a minute. The deploy
# runs it on one host after the other. Before the web page of this host stops, another host gets the
# address for people. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 1 ] || usage

give_address_away() {
    [ -n "${ADDRESS_UNIT-}" ] && systemctl is-active --quiet "$ADDRESS_UNIT" || return 0
    # This host can have it again when its services are healthy, or have failed.
    trap 'systemctl start "$ADDRESS_UNIT"' EXIT
    systemctl stop "$ADDRESS_UNIT"
}

case $1 in
check)
    for unit in $UNITS airflow-web.socket; do
        [ "$unit" = airflow.target ] || "$here/run-unit.sh" check "$unit"
    done
    state=$(systemctl is-active airflow.target) || fail "airflow.target is $state"
    "$here/health.py" check
    ;;
apply)
    for unit in $UNITS airflow-web.socket; do
        [ "$unit" != airflow.target ] || continue
        ! "$here/run-unit.sh" check "$unit" 2>/dev/null || continue
        [ "$unit" != airflow-api-server.service ] || give_address_away
        "$here/run-unit.sh" apply "$unit"
    done
    systemctl start airflow.target
    "$here/health.py" apply
    ;;
*) usage ;;
esac
