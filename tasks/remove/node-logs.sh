#!/bin/sh
# node-logs.sh check|apply UNIT FOLDER: the logs are not mounted at FOLDER any more, and there is no UNIT
# that mounts them. The removal sends this text to the host with the arguments on top.
set -eu
[ $# = 3 ] || {
    echo "usage: node-logs.sh check|apply UNIT FOLDER" >&2
    exit 2
}
unit=$2 folder=$3

case $1 in
check)
    found=$(ls -d "$unit" "$folder" 2>/dev/null) || true
    [ -z "$found" ] || {
        echo "there still is $(echo "$found" | head -n 1)" >&2
        exit 1
    }
    ;;
apply)
    systemctl stop "${unit##*/}" 2>/dev/null || true
    ! mountpoint -q "$folder" || {
        echo "$folder is still mounted, and its files are the logs: end the processes that fuser -vm" \
            "shows for it, then run the removal again" >&2
        exit 1
    }
    [ ! -e "$folder" ] || rmdir "$folder"
    rm -f "$unit"
    systemctl daemon-reload
    ;;
esac
