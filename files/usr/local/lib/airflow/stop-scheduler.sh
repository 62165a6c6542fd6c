#!/bin/sh
# stop-scheduler.sh PID: stop the scheduler whose process is PID, without the 20 s that it waits for
# its watchers of the cluster, which inherit its handler of SIGTERM and so ignore the signal. Nothing
# is lost: the cluster knows all that a watcher knows, and the next scheduler asks the cluster.
# Written by the deploy of Airflow; airflow-scheduler.service runs it.

ended_within() {
    timeout "$1" tail --pid="$scheduler" -f /dev/null
}

# kill_children PATTERN: those whose status has no line like it.
kill_children() {
    # shellcheck disable=SC2013 # the file has words, not lines
    for child in $(cat "/proc/$scheduler/task/$scheduler/children"); do
        status=$(cat "/proc/$child/status" 2>/dev/null) &&
            ! echo "$status" | grep -Eq "$1" && kill -KILL "$child"
    done
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
# shellcheck disable=SC2013 # as above
for child in $(cat "/proc/$scheduler/task/$scheduler/children"); do
    grep -Eqs "$runs_tasks" "/proc/$child/status" && busy=yes
done
test -n "${busy-}" || kill_children "$runs_tasks"
# TimeoutStopSec of the unit limits the wait.
tail --pid="$scheduler" -f /dev/null
