#!/bin/sh
# image-load.sh check|apply IMAGE: the cluster has IMAGE, which lies as an archive in the folder
# IMAGES until then. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
image=$2
archive=$IMAGES/${image##*:}.tar
export HOME=/root # there minikube keeps its state

case $1 in
check)
    if [ -n "$NODE_IS_HOST" ]; then
        there=$(ctr -n k8s.io images ls -q "name==$image")
    else
        there=$(minikube image ls)
    fi
    echo "$there" | grep -qxF -e "$image" || fail "the cluster does not have $image"
    ;;
apply)
    if [ -n "$NODE_IS_HOST" ]; then
        ctr -n k8s.io images import "$archive" >/dev/null
    else
        minikube image load "$archive"
    fi
    rm "$archive"
    ;;
*) usage ;;
esac
