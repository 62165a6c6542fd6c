#!/bin/sh
# address.sh check|apply: keepalived, which has the address for people on one of several hosts, is enabled
# and runs with its inputs as they are. Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 1 ] || usage
unit=keepalived.service

case $1 in
check)
    systemctl is-enabled --quiet "$unit" 2>/dev/null || fail "$unit is not enabled"
    check_unit "$unit"
    ;;
apply)
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    # A reload leaves the address where it is.
    systemctl reload-or-restart "$unit" && "$0" check && exit
    last_words "$unit"
    exit 1
    ;;
*) usage ;;
esac
