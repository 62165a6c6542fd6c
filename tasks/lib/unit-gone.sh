#!/bin/sh
# unit-gone.sh check|apply DROP_IN UNIT,... FILE...: the UNITs, of packages that stay, do not run, and
# the deploy's FILEs for them and the DROP_IN are gone. The text is sent to the host with the arguments
# on top, since the removal may find none of the deploy's programs there.
set -eu
[ $# -ge 3 ] || {
    echo "usage: unit-gone.sh check|apply DROP_IN UNIT,... FILE..." >&2
    exit 2
}
action=$1 drop_in=$2 units=$3
shift 3

case $action in
check)
    [ ! -e "$drop_in" ] || {
        echo "there still is $drop_in" >&2
        exit 1
    }
    ;;
apply)
    for unit in $(echo "$units" | tr , ' '); do
        systemctl disable --quiet --now "$unit" 2>/dev/null || true # its package may be gone
    done
    # The drop-in goes last: as long as it is there, this step is not done.
    rm -f "$@"
    rm -f "$drop_in"
    rmdir "$(dirname "$drop_in")" 2>/dev/null || true # the folder may hold a drop-in of an admin
    systemctl daemon-reload
    ;;
*)
    echo "usage: unit-gone.sh check|apply DROP_IN UNIT,... FILE..." >&2
    exit 2
    ;;
esac
