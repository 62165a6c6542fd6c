#!/bin/sh
# postgres-cluster.sh check|apply VERSION PORT: there is the PostgreSQL cluster VERSION/main, which
# listens on PORT. A package makes it only if it may (create_main_cluster) and finds the login's
# language. Written by the deploy of Airflow.
# In tests, POSTGRES_CONFIG names another folder than /etc/postgresql.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 3 ] || usage
version=$2 port=$3
folder=${POSTGRES_CONFIG:-/etc/postgresql}/$version/main

# Print the port of the cluster, nothing if there is none.
found() {
    pg_lsclusters --no-header | awk -v version="$version" '$1 == version && $2 == "main" {print $3}'
}

case $1 in
check)
    now=$(found)
    [ -n "$now" ] || fail "there is no cluster $version/main"
    [ "$now" = "$port" ] || fail "the cluster $version/main listens on port $now, not $port"
    ;;
apply)
    if [ -z "$(found)" ]; then
        # Without its postgresql.conf the folder is no cluster's, but would stand in the way.
        rm -f "$folder/conf.d/airflow.conf" "$folder/pg_hba.conf" "$folder"/*.new
        rmdir "$folder/conf.d" "$folder" 2>/dev/null || true
        echo "$version/main" >"$POSTGRES_CLUSTER" # for the removal
        pg_createcluster --port "$port" --encoding UTF8 --locale C.UTF-8 "$version" main >/dev/null
    elif [ "$(found)" != "$port" ]; then
        pg_conftool "$version" main set port "$port"
        systemctl try-restart "postgresql@$version-main"
    fi
    ;;
*) usage ;;
esac
