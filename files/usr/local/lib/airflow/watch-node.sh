#!/bin/sh
# watch-node.sh: wait until the container of minikube's node ends, and fail, so that minikube.service
# starts it again. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 0 ] || usage
# The container's first process is one of the host as well. To look for it costs next to nothing.
process=$(${IN_NODE%% *} container inspect --format '{{.State.Pid}}' minikube)
[ "$process" = 0 ] || tail -s 5 --pid="$process" -f /dev/null
fail "<4>the container of minikube's node has ended"
