#!/bin/sh
# prune-venvs.sh check|apply VENV OTHERS: no virtual environments are there but VENV and the youngest
# OTHERS of those that are complete. The services run with VENV, pods have theirs in their image.
# Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 3 ] || usage
case $1 in check | apply) ;; *) usage ;; esac

# shellcheck disable=SC2012 # names of the deploy's own
kept=$(
    ls -t "$VENVS"/*/.complete 2>/dev/null | sed 's|/[.]complete$||' | grep -vxF "$2" | head -n "$3"
    echo "$2"
)
surplus=$(find "$VENVS" -mindepth 1 -maxdepth 1 -type d | grep -vxF "$kept" || true)

case $1 in
check) [ -z "$surplus" ] || fail "nothing needs these virtual environments: $(echo "$surplus" | paste -sd' ')" ;;
apply)
    for venv in $surplus; do
        # First the sign of a complete one: half a venv must not look like a whole one.
        rm -f "$venv/.complete"
        rm -rf "$venv"
    done
    ;;
esac
