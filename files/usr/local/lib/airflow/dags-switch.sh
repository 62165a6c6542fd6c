#!/bin/sh
# dags-switch.sh check|apply VERSION: the dag-processor reads this version of the worker image's
# DAGs. The version before stays, for processes that still read it. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
case $1 in check | apply) ;; *) usage ;; esac
version=$2
cd "$IMAGE_DAGS"
now=$(readlink current) || now=

case $1 in
check)
    if [ "$now" != "$version" ] || ! echo "$version" | cmp -s - current.name; then
        fail "the dag-processor reads the DAGs of version ${now:-none}, not $version"
    fi
    ;;
apply)
    ln -sfn "$version" current.new
    mv -T current.new current
    echo "$version" >current.name.new
    replace current.name
    for old in *.sums; do
        case ${old%.sums} in
        "$version" | "$now") ;;
        *) rm -rf "$old" "${old%.sums}" ;;
        esac
    done
    ;;
esac
