#!/bin/sh
# owner.sh PROGRAM ARGUMENT...: run psql or another client of PostgreSQL in Airflow's database, as the
# database's owner. For root and for the user airflow. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -gt 0 ] || usage

# The home is where libpq looks for certificates; root's is closed to the user.
# shellcheck disable=SC2086 # a list of variables
set -- env HOME="$HOMES/airflow" $OWNER_CONNECTION "$@"
# runuser needs more than the sandbox of the backup's timer has.
[ "$(id -u)" != 0 ] || set -- setpriv --reuid=airflow --regid=airflow --init-groups "$@"
cd "${ROOT:-/}" # a folder that the user may enter, too; in tests the root is another one
exec "$@"
