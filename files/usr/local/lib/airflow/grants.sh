#!/bin/sh
# grants.sh check|apply: the role of DAGs' code has the rights of grants.sql in Airflow's database, and no
# others. The owner gives them: a superuser would run code that the owner of a table or of a
# function put there.
# grants.sh print: print the query for the statements that a database lacks. Written by the deploy of
# Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 1 ] || usage

# A server of others may require other role names, and has no role for the deploy's exporter.
print() {
    sed "s/airflow-dags/$DAGS_ROLE/g; s/prometheus/$METRICS_ROLE/g" "$here/grants.sql"
}

run() {
    "$here/owner.sh" psql -XAtq -v ON_ERROR_STOP=1
}

case $1 in
check)
    missing=$(print | run) || fail "the database does not tell the rights of the role $DAGS_ROLE"
    [ -z "$missing" ] ||
        fail "the role $DAGS_ROLE has other rights than it should, or the database another time zone than UTC"
    ;;
apply) { print && echo '\gexec'; } | run ;;
print) print ;;
*) usage ;;
esac
