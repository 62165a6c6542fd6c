#!/bin/sh
# objects.sh check|apply KUBECTL OBJECTS...: the cluster has none of the objects. KUBECTL is the
# client with its options, and each OBJECTS the arguments that name some of them. Without the client
# there are none, since the removal takes it away after them. A cluster that does not answer is an
# error. The deploy and the removal send this text to the host with the arguments on top.
set -eu
[ $# -ge 3 ] || {
    echo "usage: objects.sh check|apply KUBECTL OBJECTS..." >&2
    exit 2
}
action=$1 kubectl=$2
shift 2
[ -e "${kubectl%% *}" ] || exit 0

for objects; do
    # shellcheck disable=SC2086 # a command, and arguments
    case $action in
    check)
        found=$($kubectl get --ignore-not-found -o name $objects)
        [ -z "$found" ] || {
            echo "the cluster still has $(echo "$found" | head -n 1)" >&2
            exit 1
        }
        ;;
    apply) $kubectl delete --ignore-not-found $objects >/dev/null ;;
    *) exit 2 ;;
    esac
done
