#!/bin/sh
# image-load.sh check|apply IMAGE: the cluster has IMAGE, which lies as an archive in the folder
# IMAGES until then. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
image=$2
archive=$IMAGES/${image##*:}.tar
# A node with a full disk removes images that no pod uses, but not this one, which no registry has.
pinned=io.cri-containerd.pinned
export HOME=/root # there minikube keeps its state

case $1 in
check)
    if [ -n "$IN_NODE" ]; then
        there=$($IN_NODE ctr -n k8s.io images ls -q "name==$image,labels.\"$pinned\"==pinned")
    else
        there=$(minikube image ls)
    fi
    echo "$there" | grep -qxF -e "$image" || fail "the cluster does not have $image"
    ;;
apply)
    if [ -z "$IN_NODE" ]; then
        minikube image load "$archive"
    else
        # An earlier version of the deploy loaded it without the label.
        [ ! -e "$archive" ] || $IN_NODE ctr -n k8s.io images import - <"$archive" >/dev/null
        $IN_NODE ctr -n k8s.io images label "$image" "$pinned=pinned" >/dev/null
    fi
    rm -f "$archive"
    ;;
*) usage ;;
esac
