#!/bin/sh
# unused.sh check|apply FOLDER FILE COMMAND...: there is no FILE in FOLDER, or others use it, since
# COMMAND prints something. The removal sends this text to the host with the arguments on top.
set -eu
[ $# -ge 4 ] || {
    echo "usage: unused.sh check|apply FOLDER FILE COMMAND..." >&2
    exit 2
}
action=$1 folder=$2 file=$3
shift 3
[ -e "$file" ] || exit 0
[ -z "$("$@" 2>/dev/null || true)" ] || exit 0

case $action in
check)
    echo "nobody uses $folder" >&2
    exit 1
    ;;
# A mount point stays, emptied.
apply) rm -rf "$folder" 2>/dev/null || true ;;
esac
