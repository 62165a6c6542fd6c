#!/bin/sh
# units.sh check|apply FOLDER PATTERN...: Airflow has no units in FOLDER, and no systemd timer's
# record is like one of the patterns. The removal sends this text to the host with the arguments on
# top.
set -eu
[ $# -ge 2 ] || {
    echo "usage: units.sh check|apply FOLDER PATTERN..." >&2
    exit 2
}
action=$1
cd "$2"
shift 2

case $action in
check)
    found=$(ls -d airflow* 2>/dev/null) || true
    [ -z "$found" ] || {
        echo "there still is $(echo "$found" | head -n 1)" >&2
        exit 1
    }
    ;;
apply)
    # As patterns, so that a unit that is gone already is no error.
    # The sockets first: a connection would start the service again.
    systemctl stop 'airflow-*.socket' 'airflow.targe[t]' 'airflow-*.timer' 'airflow-*.service'
    for unit in airflow*.socket airflow*.timer airflow*.service airflow.target; do
        if [ -e "$unit" ] && [ ! -L "$unit" ]; then systemctl disable --quiet "$unit"; fi
    done
    # shellcheck disable=SC2048,SC2086 # patterns
    rm -rf airflow* $*
    systemctl daemon-reload
    systemctl reset-failed 'airflow*' || true
    ;;
esac
