#!/bin/sh
# clean-history.sh: delete rows older than HISTORY_DAYS from the database. Written by the deploy of
# Airflow; airflow-cleanup-history.timer starts it.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"

before=$(date -u -Iseconds -d "$HISTORY_DAYS days ago")
# By age alone, Airflow would also delete an unfinished run with its tasks.
busy=$("$here/ask-owner.sh" -c "
    select string_agg(distinct dag_id, ',') from (
        select dag_id from public.dag_run
        where state in ('queued', 'running') and start_date < '$before'
        union
        select dag_id from public.task_instance
        where state not in ('success', 'failed', 'skipped', 'upstream_failed', 'removed')
        and start_date < '$before'
    ) as unfinished")

clean() {
    airflow db clean --yes --skip-archive --clean-before-timestamp "$before" "$@"
}

# Two tables are left out. After a long pause of the host all rows of dag would be old, and the DAGs
# would come back paused. Tasks wait for rows of trigger however old these are, and Airflow itself
# deletes the triggers that no task waits for.
clean --error-on-cleanup-failure --tables \
    asset_event,callback,connection_test_request,import_error,job,partitioned_asset_key_log,revoked_token,session
runs=dag_run,dag_version,log # with the rows that belong to them
if test -n "$busy"; then
    # Airflow 3.3.2 warns of the table deadline, in which it can't leave out DAGs.
    clean --exclude-dag-ids="$busy" --tables "$runs"
else
    clean --error-on-cleanup-failure --tables "$runs"
fi
