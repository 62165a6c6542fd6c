#!/bin/sh
# files.sh check|apply PATTERN...: no file or folder on the host is like one of the patterns.
# The removal sends this text to the host with the arguments on top.
set -eu
action=${1-}
shift

case $action in
check)
    # shellcheck disable=SC2048,SC2086 # patterns
    found=$(ls -d $* 2>/dev/null) || true
    [ -z "$found" ] || {
        echo "there still is $(echo "$found" | head -n 1)" >&2
        exit 1
    }
    ;;
apply)
    # Mount points stay, emptied.
    # shellcheck disable=SC2048,SC2086 # patterns
    rm -rf $* 2>/dev/null || true
    ;;
*)
    echo "usage: files.sh check|apply PATTERN..." >&2
    exit 2
    ;;
esac
