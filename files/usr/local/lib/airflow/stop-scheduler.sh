#!/bin/sh
# stop-scheduler.sh PID: stop the scheduler whose process is PID, without the 20 s that it waits for
# its watchers of the cluster, which inherit its handler of SIGTERM and so ignore the signal. Nothing
# is lost: the cluster knows all that a watcher knows, and the next scheduler asks the cluster.
# Written by the deploy of Airflow; airflow-scheduler.service runs it.

ended_within() {
    timeout "$1" tail --pid="$scheduler" -f /dev/null
}

# Print the files with the status of each child.
children() {
    sed -E 's|[0-9]+|/proc/&/status|g' "/proc/$scheduler/task/$scheduler/children"
}

# kill_children PATTERN: kill the children whose status has no line like it.
kill_children() {
    children | xargs -r grep -LsE "$1" | cut -d/ -f3 | xargs -r kill -KILL
}

# Children of this name run tasks on the host, which end first.
runs_tasks='^Name:.airflow worker'
# A child that ignores SIGINT (bit 2) keeps the executor's queues. One that runs tasks does not
# ignore the signal while it does.
keeps_queues='^SigIgn:.*[2367abef]$'

scheduler=${1-}
test -n "$scheduler" || exit 0 # it has ended
kill -TERM "$scheduler"
ended_within 1 && exit
kill_children "$runs_tasks|$keeps_queues"
ended_within 5 && exit
# A scheduler that stops while it starts one of those with queues forgets it, and waits for its end.
children | xargs -r grep -lsE "$runs_tasks" | grep -q . || kill_children "$runs_tasks"
# TimeoutStopSec of the unit limits the wait.
tail --pid="$scheduler" -f /dev/null
