#!/bin/sh
# image-trial.sh check|apply IMAGE AIRFLOW PYTHON: a pod of IMAGE ran these versions, which are the
# host's; an image of the same name is tried once, and tasks get just that one, by its digest.
# Written by the deploy of Airflow, with the pod's manifest in TRIAL_POD.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 4 ] || usage
image=$2 wanted="$3 $4" pod=airflow-image-trial minutes=10 # to pull the image, above all
tried=$STATE/worker-image-tried
repository=$(echo "${image%@*}" | sed 's|:[^:/]*$||')
format='{.status.phase} {.status.containerStatuses[0].state.*.reason}'
format="$format {.status.containerStatuses[0].state.*.message}"
format="$format {.status.conditions[?(@.reason==\"Unschedulable\")].message}"

refuse() {
    cure="build it from the same versions, or leave worker_image out to have it built"
    [ -z "$WORKER_REGISTRY" ] ||
        cure="look at the registry and at the certificates that the nodes trust"
    kube delete pod $pod --now >/dev/null
    fail "$image: $1: $cure"
}

try() {
    kube delete pod $pod --ignore-not-found --now >/dev/null || exit
    # Try the image that this host pushed, as tasks get it: another host may have moved the tag
    # since.
    pinned=$(pinned_digest "$image")
    by=${WORKER_REGISTRY:+${pinned:+@$pinned}}
    sed "s|\"image\": \"$image\"|\"image\": \"$image$by\"|" "$TRIAL_POD" |
        kube create -f - >/dev/null || exit
    for _ in $(seq $((60 * minutes))); do
        is=$(kube get pod $pod -o "jsonpath=$format")
        case $is in
        *ErrImage* | *ImagePullBackOff* | *InvalidImageName*) refuse "the node can't pull it: $is" ;;
        *"executable file not found"* | *"no such file"*) refuse "there is no python in it" ;;
        *CreateContainer* | *RunContainer* | *StartError*) refuse "it does not start: $is" ;;
        Succeeded* | Failed*) break ;;
        esac
        sleep 1
    done
    said=$(kube logs $pod --tail=1)
    case "$is $said" in
    Succeeded*" $wanted") ;;
    Succeeded*) refuse "it has Airflow and Python $said, the host has $wanted" ;;
    Failed*) refuse "its python can't run Airflow's tasks: $said" ;;
    *) refuse "its pod did not end within $minutes minutes: $is" ;;
    esac
    is=$(kube get pod $pod -o 'jsonpath={.status.containerStatuses[0].imageID}')
    digest=${is##*@}
    # A node may know the image from another registry, and an image that was brought has no digest.
    case $is in */"${repository#docker.io/}"@sha256:* | "$repository"@sha256:*) ;; *) digest= ;; esac
    case $image in *@sha256:*) digest= ;; esac
    [ -n "$by" ] || [ -z "$pinned" ] || [ -z "$digest" ] || [ "$pinned" = "$digest" ] || {
        kube delete pod $pod --now >/dev/null
        fail "$image: its tag now names another image ($digest) than the one that this host tried" \
            "($pinned): give the new image another tag, and write that into worker_image"
    }
    pin_image "$image" "${pinned:-$digest}" || exit
    kube delete pod $pod --now >/dev/null
}

case $1 in
check)
    [ "$(cat "$tried" 2>/dev/null)" = "$image $wanted" ] || fail "$image was not tried with $wanted"
    grep -qsF "$image " "$WORKER_DIGESTS" || fail "the digest of $image is not known"
    ;;
apply)
    try
    # The deploy removes old images of these repositories.
    [ -z "$WORKER_REGISTRY" ] || grep -qxF "$WORKER_REPOSITORY" "$WORKER_REPOSITORIES" 2>/dev/null ||
        echo "$WORKER_REPOSITORY" >>"$WORKER_REPOSITORIES"
    echo "$image $wanted" >"$tried.new" && replace "$tried"
    ;;
*) usage ;;
esac
