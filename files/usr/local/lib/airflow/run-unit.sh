#!/bin/sh
# run-unit.sh check|apply UNIT: UNIT runs, and started with its inputs as they are now.
# Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"

apply() {
    systemctl reset-failed "$unit" 2>/dev/null
    systemctl restart "$unit" && return
    last_words "$unit"
    exit 1
}

unit=${2-}
case "${1-} $#" in
"check 2") check_unit "$unit" ;;
"apply 2") apply ;;
*) usage ;;
esac
