#!/bin/sh
# Ask a PostgreSQL of others about everything that may stop a deploy, as both roles. Each answer is a line
# «key value». It changes nothing. Preflight sends this text, with assignments of the variables below on
# top; the files come by standard input, each below its name: «# owner», «# dags», «# authority».

: "${addresses=}"  # «host port» of each server, a line each
: "${sslmode=}"    # of libpq
: "${owner=}"      # variables of libpq for the role that owns the database
: "${dags=}"       # and for the role of the code of DAGs; the files in them are owner, dags, authority
: "${dags_role=}"  # its name
: "${fernet_key=}" # file with the key of the data
: "${migrated=}"   # file with the version of the database that the host's Airflow has used

say() { printf '%s %s\n' "$1" "$2"; }

# The values are arguments: bash would run a command in its text. The seconds are those of questions.sh.
# shellcheck disable=SC2016
connects() { timeout 12 bash -c '</dev/tcp/$0/$1' "$1" "$2" 2>/dev/null; }

ask_tls() { # print the error of the certificate of the server $1 at port $2, without psql
    command -v openssl >/dev/null || return 0
    at=$1:$2
    case $1 in
    *:*) at="[$1]:$2" name="-verify_ip $1" ;;
    *[!0-9.]*) name="-verify_hostname $1" ;;
    *) name="-verify_ip $1" ;;
    esac
    [ "$sslmode" = verify-full ] || name=
    # shellcheck disable=SC2086 # an option and its value
    timeout 10 openssl s_client -starttls postgres -connect "$at" -CAfile "$authority" \
        -verify_return_error $name </dev/null 2>&1 | sed -n 's/^verify error:num=[0-9]*:/tls /p' | head -n 1
}

ask_without_client() {
    printf '%s\n' "$addresses" | while read -r host port; do
        if connects "$host" "$port"; then
            say reached "$host:$port"
            ask_tls "$host" "$port"
        fi
    done
}

sql() { # ROLE QUERY
    case $1 in owner) words=$owner ;; *) words=$dags ;; esac
    # shellcheck disable=SC2086 # a list of variables
    env HOME="$work" PGOPTIONS='-c search_path=pg_catalog' $words psql -XAtq -v ON_ERROR_STOP=1 -c "$2" 2>error
}

as_owner="
select 'version ' || current_setting('server_version_num')
union all select 'owner ' || pg_get_userbyid(datdba) from pg_database where datname = current_database()
union all select 'encoding ' || pg_encoding_to_char(encoding) from pg_database where datname = current_database()
union all select 'clock ' || extract(epoch from clock_timestamp())::bigint
union all select 'schema yes' where to_regclass('public.alembic_version') is not null
union all select 'jobs yes' where to_regclass('public.job') is not null
union all select 'no_public yes' where not exists (select from pg_namespace where nspname = 'public')
union all select 'public_of ' || pg_get_userbyid(nspowner) from pg_namespace
    where nspname = 'public' and not pg_has_role(nspowner, 'usage')
union all select 'dags_missing yes' where not exists (select from pg_roles where rolname = '$dags_role')
union all select 'powerful ' || rolname from pg_roles where rolname in (current_user, '$dags_role')
    and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)
    and (rolsuper or rolname = '$dags_role')
union all select 'dags_member ' || r.rolname from pg_roles as r, pg_roles as d
    where d.rolname = '$dags_role' and not d.rolsuper and r.oid <> d.oid and pg_has_role(d.oid, r.oid, 'member')
    and (r.rolname = current_user or r.rolname in
        ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files',
        'pg_execute_server_program'))
union all select 'dags_creates yes' from pg_namespace as n, pg_roles as d
    where n.nspname = 'public' and d.rolname = '$dags_role' and not d.rolsuper
    and has_schema_privilege(d.oid, n.oid, 'create') and not pg_has_role(d.oid, current_user, 'member')
union all select format('limit %s the role %s', rolconnlimit, rolname) from pg_roles
    where rolname = current_user and rolconnlimit >= 0
union all select 'dags_limit ' || rolconnlimit from pg_roles where rolname = '$dags_role'
union all select format('limit %s the database %s', datconnlimit, datname) from pg_database
    where datname = current_database() and datconnlimit >= 0
union all select format('limit %s the server', current_setting('max_connections'))"
read -r own_name </proc/sys/kernel/hostname
# The code of DAGs can write rows of the other services.
alive="select 'alive ' || string_agg(distinct hostname, ', ') from public.job
    where job_type = 'SchedulerJob' and state = 'running'
    and latest_heartbeat > now() - interval '1 minute' having count(*) > 0
union all select 'strangers ' || string_agg(distinct hostname, ', ') from public.job
    where job_type = 'SchedulerJob' and state = 'running'
    and latest_heartbeat > now() - interval '1 minute'
    and split_part(hostname, '.', 1) <> split_part('$own_name', '.', 1) having count(*) > 0"

ask_as() { # ROLE QUERY
    sql "$1" "$2" || say "refused_$1" "$(grep . error | tr '\n' ' ' | cut -c1-1500)"
}

ask_database() {
    [ ! -s "$fernet_key" ] || say fernet_key yes
    [ ! -s "$migrated" ] || say migrated yes
    # Debian's psql only starts the psql of a version, which may be missing.
    if ! psql --version >/dev/null 2>&1; then
        say no_client yes
        ask_without_client
        return
    fi
    say client "$(psql --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')"
    answers=$(ask_as owner "$as_owner")
    printf '%s\n' "$answers"
    case $answers in *"jobs yes"*) ask_as owner "$alive" ;; esac
    ask_as dags "select 'dags yes'"
    say time "$(date +%s)"
}

umask 077
work=$(mktemp -d /run/airflow-ask.XXXXXX) && cd "$work" || exit
trap 'rm -rf "$work"' EXIT
awk '/^# (owner|dags|authority)$/ { file = $2; next } { print > file }'
authority=authority # of the server, or all that the host trusts
[ -e authority ] || authority=/etc/ssl/certs/ca-certificates.crt
ask_database
true
