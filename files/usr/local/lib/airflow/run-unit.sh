#!/bin/sh
# run-unit.sh check|apply UNIT: UNIT runs, and started with its inputs as they are now.
# Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
unit=$2

apply() {
    systemctl reset-failed "$unit" 2>/dev/null
    systemctl restart "$unit" && return
    last_words "$unit"
    exit 1
}

case $1 in
check) check_unit "$unit" ;;
apply) apply ;;
*) usage ;;
esac
