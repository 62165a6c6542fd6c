#!/bin/sh
# postgres-certificate.sh check|apply VERSION FOLDER [NAME...]: the PostgreSQL cluster VERSION/main has a
# certificate for the names of the host and these ones, of the authority in FOLDER. It lasts for ten years,
# and a deploy renews it in the last one: nobody but Airflow's hosts trusts that authority, and each deploy
# brings it to them. In tests, POSTGRES_CONFIG names another folder than /etc/postgresql. Written by the
# deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# -ge 3 ] || usage
action=$1 folder=$3
pair=${POSTGRES_CONFIG:-/etc/postgresql}/$2/main/airflow.pem
shift 3
set -- --days 3650 --left 365 "$folder" "$@"

case $action in
check)
    "$here/host-certificate.py" check "$@"
    cmp -s "$folder/server.pem" "$pair" || fail "$pair is not the certificate in $folder"
    [ "$(stat -c '%U %a' "$pair")" = "postgres 600" ] || fail "$pair is not for postgres alone"
    ;;
apply)
    "$here/host-certificate.py" apply "$@"
    install -o postgres -g postgres -m 600 "$folder/server.pem" "$pair.new"
    replace "$pair"
    ;;
*) usage ;;
esac
