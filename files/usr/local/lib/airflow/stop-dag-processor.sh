#!/bin/sh
# stop-dag-processor.sh PID: stop the dag-processor whose process is PID. While it reads DAGs, it
# sometimes loses the signal in a handler of exceptions and continues. Otherwise it waits 5 s for its
# children before it kills them, and a signal in that time would let it begin again. Written by the
# deploy of Airflow; airflow-dag-processor.service runs it.

while kill -TERM "${1-}" 2>/dev/null; do
    timeout 15 tail --pid="$1" -f /dev/null && break
done
exit 0
