#!/bin/sh
# offline-files.sh check|apply FOLDER VERSION: minikube finds Kubernetes' programs of VERSION in its
# cache, where it would otherwise download them to. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 3 ] || usage
case $1 in check | apply) ;; *) usage ;; esac
cache=/root/.minikube/cache/linux/$(dpkg --print-architecture)/v$3
programs="kubeadm kubectl kubelet"
cd "$2"

case $1 in
check)
    for each in $programs; do
        [ "$(stat -c %s "$each")" = "$(stat -c %s "$cache/$each" 2>/dev/null)" ] ||
            fail "$cache/$each is not the one of $2"
    done
    ;;
apply)
    mkdir -p "$cache"
    for each in $programs; do
        install -m 755 "$each" "$cache/$each.new"
        replace "$cache/$each"
    done
    ;;
esac
