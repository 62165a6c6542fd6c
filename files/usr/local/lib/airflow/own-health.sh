#!/bin/sh
# own-health.sh: print the health of the services of this host, in the form of the api-server's
# answer. If several hosts are one Airflow, the api-server knows only the newest heartbeat of all.
# The dag-processor works on one of the hosts. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
name=$("$here/own-name.sh")

# Half a minute is Airflow's own threshold. A job that another host has given up is no longer running,
# but its last heartbeat tells how long the service has hung. A job that never existed has no state.
"$here/owner.sh" env PGOPTIONS='-c search_path=pg_catalog' psql -XAtq -v ON_ERROR_STOP=1 \
    -v host="${name%%.*}" <<'END'
with components (name, job_type) as (values
    ('scheduler', 'SchedulerJob'), ('triggerer', 'TriggererJob'), ('dag_processor', 'DagProcessorJob')
), beats as (
    select name, max(latest_heartbeat) as latest,
        max(latest_heartbeat) filter (where state = 'running') > now() - interval '30 seconds' as healthy
    from components as c left join public.job as j on j.job_type = c.job_type
        and (name = 'dag_processor' or split_part(hostname, '.', 1) = :'host')
    group by name
)
select '{"metadatabase":{"status":"healthy"}' || string_agg(format(
    ',"%s":{"status":%s,"latest_%s_heartbeat":"%s"}', name,
    case when latest is null then 'null' when healthy then '"healthy"' else '"unhealthy"' end, name, latest
), '') || '}' from beats
END
