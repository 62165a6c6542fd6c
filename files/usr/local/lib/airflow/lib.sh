#!/bin/sh
# Shared by the programs beside it: each begins with ". /usr/local/lib/airflow/lib.sh", which reads
# the values of this host and defines the functions below.
# In tests, AIRFLOW_HOST_ENV names another file of values.

# shellcheck disable=SC1090
. "${AIRFLOW_HOST_ENV:-/etc/airflow/host.env}"

# Say what is wrong, and end.
fail() {
    echo "$*" >&2
    exit 1
}
