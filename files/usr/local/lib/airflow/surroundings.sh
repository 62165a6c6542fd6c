#!/bin/sh
# surroundings.sh PROGRAM ARGUMENT...: run a program with the surroundings that lib.sh gives, so that
# a program in Python has them too. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -gt 0 ] || usage
export AIRFLOW_SURROUNDINGS=lib.sh
exec "$@"
