#!/bin/sh
# disks.sh check|apply: the database tells Prometheus how much room the host's file systems have.
# airflow-disks.timer calls this each minute. The last figures stay while a full disk prevents new
# ones. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 1 ] || usage

# Print «free bytes, size, free inodes, inodes, folder» of each file system that holds one of the
# folders, once. Some have no number of inodes.
disks() {
    for place in $DISKS; do
        [ ! -d "$place" ] || df -B1 --output=avail,size,iavail,itotal,target "$place" | tail -n 1
    done | awk '{ for (i = 1; i < 5; i++) if ($i == "-") $i = 0; print $1, $2, $3, $4, $5 }' | sort -u -k 5,5
}

sql() {
    "$here/ask-owner.sh" -1 "$@"
}

case $1 in
check)
    # A busy host may be ten minutes late.
    told=$(sql -c "select folder from deploy.disk where at > now() - interval '10 minutes' order by 1" 2>/dev/null) || told=
    [ "$told" = "$(disks | cut -d' ' -f5)" ] || fail "the database does not have the free space of all file systems"
    [ "$(sql -c "select has_schema_privilege('$METRICS_ROLE', 'deploy', 'usage')
        and has_table_privilege('$METRICS_ROLE', 'deploy.disk', 'select')")" = t ] ||
        fail "Prometheus' exporter can't read the free space of file systems"
    ;;
apply)
    disks | sql -c "set client_min_messages to warning;
        create schema if not exists deploy;
        create table if not exists deploy.disk (free_bytes bigint not null, size_bytes bigint not null,
            free_files bigint not null, files bigint not null, folder text primary key,
            at timestamptz not null default now());
        grant usage on schema deploy to $METRICS_ROLE; grant select on deploy.disk to $METRICS_ROLE;
        lock table deploy.disk in exclusive mode; -- the timer and a deploy may come together
        delete from deploy.disk" -c "copy deploy.disk (free_bytes, size_bytes, free_files, files, folder)
        from stdin with (format csv, delimiter ' ')"
    ;;
*) usage ;;
esac
