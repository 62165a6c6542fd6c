#!/bin/sh
# run-unit.sh check|apply UNIT: UNIT runs, and started with its inputs as they are now. When a unit
# starts, it records the checksums of the files that it reads in /run/airflow/UNIT. Written by the
# deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"

check() {
    state=$(systemctl is-active "$unit")
    [ "$state" = active ] || fail "$unit is $state"
    changed=$(sha256sum --check --quiet "$STARTED_WITH/$unit" 2>/dev/null) ||
        fail "$unit started before its inputs changed: $(echo "$changed" | paste -sd,)"
}

apply() {
    systemctl reset-failed "$unit" 2>/dev/null
    systemctl restart "$unit" && return
    journalctl -u "$unit" -n 30 -o cat --no-pager | printable
    exit 1
}

unit=${2-}
case "${1-} $#" in
"check 2") check ;;
"apply 2") apply ;;
*)
    echo "usage: run-unit.sh check|apply UNIT" >&2
    exit 2
    ;;
esac
