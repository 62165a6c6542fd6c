#!/bin/sh
# cluster-nodes.sh check|apply ARCHITECTURE: an existing cluster has a node for the worker image, which
# the host builds for Linux and its own ARCHITECTURE. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
case $1 in check | apply) ;; *) usage ;; esac

# Not every user may list nodes; a cluster can start its first node when a pod waits for it.
kind='{.status.nodeInfo.operatingSystem}/{.status.nodeInfo.architecture}'
found=$($KUBECTL get nodes -o "jsonpath={range .items[*]}$kind {end}" --request-timeout=10s 2>/dev/null) || exit 0
case " $found " in
"  " | *" linux/$2 "*) ;;
*)
    fail "the cluster has only nodes of another kind ($(printf %s "$found" | tr ' ' '\n' | sort -u | paste -sd,)), and the host builds the worker image for its own, linux/$2: add such a node, or write worker_image"
    ;;
esac
