#!/bin/sh
# dags-env.sh check|apply IMAGE: the variables of DAGs on the host are DAGS_ENV_CANDIDATE, in which IMAGE
# is put in as task pods name it: with its digest if it comes from a registry. Written by the deploy of
# Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
digest=$(pinned_digest "$2")

variables() {
    sed "s|\$\$(AIRFLOW_WORKER_IMAGE)|$2${digest:+@$digest}|g" "$DAGS_ENV_CANDIDATE"
}

case $1 in
check)
    variables "$@" | cmp -s - "$DAGS_ENV" ||
        fail "$DAGS_ENV differs from $DAGS_ENV_CANDIDATE with the digest of the image"
    [ -n "$(find "$DAGS_ENV" -user root -group root -perm 644)" ] ||
        fail "$DAGS_ENV has another owner or mode"
    ;;
apply)
    variables "$@" >"$DAGS_ENV.new"
    replace "$DAGS_ENV" root:root 644
    ;;
*) usage ;;
esac
