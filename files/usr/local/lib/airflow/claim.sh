#!/bin/sh
# claim.sh check|apply SETTING CLAIM FOLDER USER...: the claim of SETTING has its volume, or gets it
# with its first pod, and these users of the host can read its files in FOLDER. apply waits for up to
# a minute. Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -ge 5 ] || usage
action=$1 setting=$2 claim=$3 folder=$4
shift 4

look() {
    phase=$(kube get pvc "$claim" --ignore-not-found -o 'jsonpath={.status.phase}')
}

# Whether there is nothing to wait for: the claim has its volume, or its storage class makes that
# where the first pod runs (volumeBindingMode), which the cluster says in an event. The rights of an
# existing cluster's kubeconfig do not cover storage classes.
settled() {
    [ "$phase" != Bound ] || return 0
    [ "$phase" = Pending ] && [ -n "$(kube get events -o name --field-selector \
        "involvedObject.name=$claim,reason=WaitForFirstConsumer")" ]
}

# Print why a user can't read the folder, if one can't.
unreadable() {
    for user; do
        # shellcheck disable=SC2016 # the other shell expands it
        runuser -u "$user" -- sh -c 'test -r "$1" && test -x "$1"' sh "$folder" ||
            echo "$folder is not readable for the host's users $(echo "$*" | sed 's/ / and /g'): give them the right"
    done | head -n 1
}

judge() {
    if [ -z "$phase" ]; then
        fail "$setting: there is no claim $claim in the namespace: make it, or give its size and the deploy makes it"
    elif ! settled; then
        event=$(kube get events --field-selector "involvedObject.name=$claim" \
            -o 'jsonpath={.items[-1:].message}')
        fail "$setting: the claim $claim has no volume ($phase: $event): make one, or choose another storage class"
    elif ! [ -d "$folder" ]; then
        fail "$setting: the host has no folder $folder, where the files of the claim $claim should be (host_path): mount them there"
    fi
    why=$(unreadable "$@")
    [ -z "$why" ] || fail "$setting: $why"
}

case $action in
check)
    look || exit
    judge "$@"
    ;;
apply)
    # A cluster that makes volume and folder needs a moment.
    for _ in $(seq 60); do
        look || exit
        if [ -z "$phase" ] || { settled && [ -d "$folder" ]; }; then break; fi
        sleep 1
    done
    judge "$@"
    ;;
*) usage ;;
esac
