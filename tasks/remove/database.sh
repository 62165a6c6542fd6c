#!/bin/sh
# database.sh check|apply FOLDER DATABASE ROLE,... ORIGINAL MADE DROP_IN CERTIFICATE: the PostgreSQL
# cluster with the configuration FOLDER (/etc/postgresql/VERSION/main) has no database and no role of
# Airflow, and pg_hba.conf is the file ORIGINAL again. DROP_IN is a pattern. CERTIFICATE is empty if
# Airflow's hosts need none. A cluster that the deploy made, as the file MADE tells, is dropped; one
# that a package made goes with the package. The removal sends this text to the host with the
# arguments on top.
set -eu
[ $# = 8 ] || {
    echo "usage: database.sh check|apply FOLDER DATABASE ROLE,... ORIGINAL MADE DROP_IN CERTIFICATE" >&2
    exit 2
}
action=$1 folder=$2 database=$3 roles=$4 original=$5 made=$6 drop_in=$7 certificate=$8
version=$(basename "$(dirname "$folder")")
config=$folder/conf.d/airflow.conf

as_postgres() {
    runuser -u postgres -- "$@"
}

case $action in
check)
    [ ! -e "$config" ] || {
        echo "there still is $config" >&2
        exit 1
    }
    ;;
apply)
    # A restore that was cut off leaves the other two.
    for each in "$database" "${database}_new" "${database}_old"; do
        as_postgres dropdb --if-exists --force "$each"
    done
    for role in $(echo "$roles" | tr , ' '); do as_postgres dropuser --if-exists "$role"; done
    [ ! -e "$folder/$original" ] || mv "$folder/$original" "$folder/pg_hba.conf"
    # shellcheck disable=SC2086 # a pattern
    rm -f $drop_in
    systemctl daemon-reload
    # shellcheck disable=SC2086 # a pattern; the folder may hold a drop-in of an admin
    rmdir ${drop_in%/*} 2>/dev/null || true
    [ -z "$certificate" ] || rm -f "$certificate"
    rm "$config"
    systemctl restart "postgresql@$version-main"
    [ ! -e "$made" ] || pg_dropcluster --stop "$version" main
    ;;
esac
