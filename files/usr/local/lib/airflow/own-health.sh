#!/bin/sh
# own-health.sh: print the health of the services of this host, each in a line: its name, its status, and
# its last heartbeat if there is one. If several hosts are one Airflow, the api-server knows only the
# newest heartbeat of all. The dag-processor works on one of the hosts. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
name=$("$here/own-name.sh")

# Half a minute is Airflow's own threshold. A job that another host has given up is no longer running,
# but its last heartbeat tells how long the service has hung. A job that never existed has no state.
"$here/ask-owner.sh" -F ' ' -v host="${name%%.*}" <<'END'
with components (name, job_type) as (values
    ('scheduler', 'SchedulerJob'), ('triggerer', 'TriggererJob'), ('dag_processor', 'DagProcessorJob')
), beats as (
    select name, max(latest_heartbeat) as latest,
        max(latest_heartbeat) filter (where state = 'running') > now() - interval '30 seconds' as healthy
    from components as c left join public.job as j on j.job_type = c.job_type
        and (name = 'dag_processor' or split_part(hostname, '.', 1) = :'host')
    group by name
)
select name, case when latest is null then 'unknown' when healthy then 'healthy' else 'unhealthy' end,
    to_char(latest at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
from beats union all select 'metadatabase', 'healthy', null
END
