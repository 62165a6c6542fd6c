#!/bin/sh
# cluster.sh check|apply UNIT SHIMS LOCKS KEPT...: there is no cluster of minikube and no UNIT that
# starts it, and the folder LOCKS has only the files KEPT, which this run holds. SHIMS has stand-ins for
# programs that minikube calls. The removal sends this text to the host with the arguments on top.
set -eu
[ $# -ge 5 ] || {
    echo "usage: cluster.sh check|apply UNIT SHIMS LOCKS KEPT..." >&2
    exit 2
}
action=$1 unit=$2 shims=$3 locks=$4
shift 4

case $action in
check)
    [ ! -e "$unit" ] || {
        echo "there still is $unit" >&2
        exit 1
    }
    ;;
apply)
    PATH=$PATH:$shims HOME=/root TMPDIR=$locks minikube delete >/dev/null
    for kept; do
        set -- "$@" ! -path "$kept"
        shift
    done
    find "$locks" -mindepth 1 "$@" -delete
    systemctl disable --quiet --now minikube || true
    rm -f "$unit"
    systemctl daemon-reload
    ;;
esac
