#!/bin/sh
# clean-pods.sh: delete pods that ended and were kept long enough, in all namespaces of tasks.
# Written by the deploy of Airflow; airflow-cleanup-pods.timer starts it.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"

# A pod that never could start counts as failed, but Airflow itself must have given it up before.
pending=$FAILED_PODS_MINUTES
[ "$pending" -ge 30 ] || pending=30
for namespace in $NAMESPACES; do
    airflow kubernetes cleanup-pods --namespace="$namespace" \
        --min-completed-minutes="$FAILED_PODS_MINUTES" --min-pending-minutes="$pending"
done
