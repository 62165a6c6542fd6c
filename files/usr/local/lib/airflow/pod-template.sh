#!/bin/sh
# pod-template.sh check|apply KEY SETTING...: the cluster accepted the pod template that KEY names,
# which lies in POD_CANDIDATE; these settings shape it. Nothing else of the deploy would notice a
# misspelt field, and each task would fail. Written by the deploy of Airflow.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -ge 2 ] || usage
action=$1 key=$2
shift 2
accepted=$STATE/pod-template-accepted
settings=$(echo "$*" | sed 's/ /, /g')

case $action in
check) grep -qsx "$key" "$accepted" || fail "the cluster was not asked about the pod template" ;;
apply)
    said=$($KUBECTL create --dry-run=server --validate=strict -f - <"$POD_CANDIDATE" 2>&1) || case $said in
    # Kubernetes checks a quota last, and a full quota is no fault of the template.
    *"exceeded quota"*) ;;
    *)
        fail "${settings:-the pod template}: the cluster refuses task pods like this, and nothing was switched to them: ${said#*STDIN???}"
        ;;
    esac
    echo "$key" >"$accepted.new" && replace "$accepted"
    ;;
*) usage ;;
esac
