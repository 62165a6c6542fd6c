#!/bin/sh
# prune-images.sh check|apply KEPT CURRENT: the node has no more built worker images than it should.
# Written by the deploy of Airflow, which calls it, as airflow-cleanup-images.timer does.
#
# These are kept: the image CURRENT, the youngest of the others up to the number KEPT, and each that
# a pod names: a pod that waits for its container needs its image as much as one that runs. Built
# images are those of localhost/airflow-worker and of the repositories in WORKER_REPOSITORIES.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 3 ] || usage
case $1 in check | apply) ;; *) usage ;; esac
action=$1 kept=$2 current=$3 digest=$(pinned_digest "$3")
crictl="$IN_NODE crictl --timeout=2m" # its default of 2 s is too short to remove an image

images=$($IN_NODE ctr -n k8s.io images ls -q)
built=$(for repository in localhost/airflow-worker $(cat "$WORKER_REPOSITORIES" 2>/dev/null); do
    echo "$images" | awk -v at="$repository" 'index($0, at ":") == 1 || index($0, at "@") == 1'
done)
[ "$(echo "$built" | wc -l)" -gt "$kept" ] || exit 0
# minikube's own kubeconfig is in /root, which the timer does not see.
admin=${NODE_IS_HOST:+kubectl --kubeconfig=/etc/kubernetes/admin.conf}
used=$(${admin:-$KUBECTL} get pods --all-namespaces -o jsonpath='{..image}')
# A pod names an image of a registry by tag and digest; a node has it under either.
current=$current${digest:+@$digest}
used=$(echo "$used $current" | tr ' ' '\n' |
    sed -E 's/^(.*)(:[^:/@]*)@(.*)$/\1\2 \1@\3/' | paste -sd' ')
# crictl removes an image with all its names.
template='{{.info.imageSpec.created}}{{range .status.repoTags}} {{.}}{{end}}{{range .status.repoDigests}} {{.}}{{end}}'
surplus=$(for image in $built; do
    shown=$($crictl inspecti -o go-template --template "$template" "$image")
    for name in ${shown#* }; do
        case " $used " in *" $name "*) continue 2 ;; esac
    done
    echo "$shown"
done | sort -ru | tail -n "+$kept" | cut -d' ' -f2)
[ -n "$surplus" ] || exit 0
# shellcheck disable=SC2086 # one line
[ "$action" = apply ] || fail "the node can do without these images:" $surplus
for image in $surplus; do
    $crictl rmi "$image" >/dev/null
done
