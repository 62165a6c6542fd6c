#!/bin/sh
# ask-owner.sh OPTION...: run psql in Airflow's database as its owner. Questions have full names of
# tables: the owner could give shorter ones another meaning. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
exec "$here/owner.sh" env PGOPTIONS='-c search_path=pg_catalog' psql -XAtq -v ON_ERROR_STOP=1 "$@"
