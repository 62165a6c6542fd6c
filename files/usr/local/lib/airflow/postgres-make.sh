#!/bin/sh
# postgres-make.sh check|apply role NAME [LIMIT]: the cluster has the role NAME, which may log in. With a
# limit, it may have so many connections, and its errors are not in PostgreSQL's log.
# postgres-make.sh check|apply database NAME: it has the database NAME, which the role NAME owns.
# pyinfra's own operations would fail where PostgreSQL does not run yet. Written by the deploy of
# Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
case "${2-} $#" in "role 3" | "role 4" | "database 3") ;; *) usage ;; esac
kind=$2 name=$3 limit=${4-} quiet=log_min_messages=fatal
cd /

ask() {
    runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d postgres -c "$1"
}

is_there() {
    case $kind in
    role) found=$(ask "select 1 from pg_roles where rolname = '$name'") ;;
    database) found=$(ask "select 1 from pg_database where datname = '$name'") ;;
    esac || fail "the PostgreSQL cluster $PGCLUSTER does not answer"
    [ "$found" = 1 ]
}

is_limited() {
    [ -z "$limit" ] || [ "$(ask "select rolconnlimit from pg_roles where rolname = '$name'")" = "$limit" ]
}

# Print what gives the role its setting and no others. The code of DAGs can make some with which no
# session begins. Errors may have any size and number, and the process that asked has them.
settings() {
    [ -z "$limit" ] || ask "select format('alter role %I%s reset all;', r.rolname,
        ' in database ' || quote_ident(d.datname)) from pg_db_role_setting as s
        join pg_roles as r on r.oid = s.setrole left join pg_database as d on d.oid = s.setdatabase
        where r.rolname = '$name' and setconfig <> '{$quiet}'
        union all select format('alter role %I set $quiet;', rolname) from pg_roles
        where rolname = '$name' and rolconfig is distinct from '{$quiet}'"
}

make() {
    case $kind in
    role) runuser -u postgres -- createuser --login "$name" ;;
    database)
        runuser -u postgres -- createdb --owner="$name" --template=template0 --encoding=UTF8 \
            --lc-collate=C.UTF-8 --lc-ctype=C.UTF-8 "$name"
        ;;
    esac
}

case $1 in
check)
    (is_there) 2>/dev/null || fail "the PostgreSQL cluster $PGCLUSTER has no $kind $name"
    is_limited || fail "the connection limit of the role $name is not $limit"
    found=$(settings)
    [ -z "$found" ] || fail "the role $name has other settings than $quiet"
    ;;
apply)
    is_there || make
    is_limited || ask "alter role \"$name\" connection limit $limit"
    found=$(settings)
    [ -z "$found" ] || ask "$found"
    ;;
*) usage ;;
esac
