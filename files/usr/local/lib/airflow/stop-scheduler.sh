#!/bin/sh
# stop-scheduler.sh PID: stop the scheduler whose process is PID, without the 20 s that it waits for
# its watchers of the cluster, which inherit its handler of SIGTERM and so ignore the signal. Nothing
# is lost: the cluster knows all that a watcher knows, and the next scheduler asks the cluster.
# Written by the deploy of Airflow; airflow-scheduler.service runs it.

ended_within() {
    timeout "$1" tail --pid="$scheduler" -f /dev/null
}

# A child that ignores SIGINT (bit 2) keeps the executor's queues. A child called "airflow worker"
# runs tasks on the host, and does not ignore the signal while it does.
is_watcher() {
    status=$(cat "/proc/$1/status" 2>/dev/null) &&
        ! echo "$status" | grep -Eq '^Name:.airflow worker|^SigIgn:.*[2367abef]$'
}

scheduler=${1-}
test -n "$scheduler" || exit 0 # it has ended
kill -TERM "$scheduler"
ended_within 1 && exit
# shellcheck disable=SC2013 # the file has words, not lines
for child in $(cat "/proc/$scheduler/task/$scheduler/children"); do
    is_watcher "$child" && kill -KILL "$child"
done
# Tasks on the host end first. TimeoutStopSec of the unit limits the wait.
tail --pid="$scheduler" -f /dev/null
