#!/bin/sh
# users.sh check|apply NAME...: there is no user and no group NAME. The removal sends this text to the
# host with the arguments on top.
set -eu
[ $# -ge 2 ] || {
    echo "usage: users.sh check|apply NAME..." >&2
    exit 2
}
action=$1
shift

case $action in
check)
    for name; do
        for kind in passwd group; do
            ! getent $kind "$name" >/dev/null || {
                echo "$name is still in $kind" >&2
                exit 1
            }
        done
    done
    ;;
apply)
    # The groups go last: a group that is a user's primary one can't be removed.
    for name; do ! getent passwd "$name" >/dev/null || userdel "$name"; done
    for name; do ! getent group "$name" >/dev/null || groupdel "$name"; done
    ;;
esac
