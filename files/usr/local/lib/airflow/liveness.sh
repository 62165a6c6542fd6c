#!/bin/sh
# liveness.sh URL: kill each of Airflow's services that hangs without ending, so that systemd starts
# it again; a service that hangs does not end when systemd asks it to. URL is the api-server's
# address. Written by the deploy of Airflow; airflow-liveness.timer starts it.
#
# The heartbeat that each service leaves in the database counts, with Airflow's own thresholds. A
# service that waits for a slow cluster leaves none although it works: it has five minutes.
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"

# Print the units that give no sign of life, each with the time of its last one, if that is known.
silent() {
    if ! health=$(curl -s --noproxy '*' -m 10 "$1/api/v2/monitor/health"); then
        # The answer needs the database, which may hang instead. The api-server knows without the
        # database that a page does not exist.
        curl -s --noproxy '*' -m 10 -o /dev/null "$1/no-such-page" || echo "airflow-api-server "
        return
    fi
    [ -z "${SEVERAL_HOSTS-}" ] || health=$("$here/own-health.sh" 2>/dev/null) || return
    case $health in *'"metadatabase":{"status":"healthy"'*) ;; *) return ;; esac
    for unit in scheduler triggerer dag-processor; do
        name=$(echo $unit | tr - _)
        case $health in *"\"$name\":{\"status\":\"unhealthy\""*) ;; *) continue ;; esac
        echo "airflow-$unit $(echo "$health" | sed "s/.*\"latest_${name}_heartbeat\":\"//; s/\".*//")"
    done
}

# Print how far the main thread of unit $1 is: how often it gave up the processor. With several hosts the
# dag-processor is a child of the program that makes it the only one.
steps() {
    pid=$(systemctl show -P MainPID "$1")
    case ${SEVERAL_HOSTS:+$1} in airflow-dag-processor) pid=$(pgrep -P "$pid" -x airflow || echo "$pid") ;; esac
    grep -s ctxt_switches "/proc/$pid/status" | tr -d '\n'
}

first=$(silent "$1")
test -z "$first" && exit
before=$(echo "$first" | while read -r unit beat; do echo "$unit $(steps "$unit")"; done)
# This is longer than from one heartbeat to the next (5 s): after a pause of the machine or of the
# database, all heartbeats are old for a moment.
sleep 6
second=$(silent "$1")
echo "$first" | while read -r unit beat; do
    echo "$second" | grep -q "^$unit " || continue
    # Leave alone a unit that was stopped, that starts, or that started less than a minute ago.
    test "$(systemctl is-active "$unit")" = active || continue
    test -n "$(find "$STARTED_WITH/$unit.service" -mmin +1)" || continue
    if test -n "$beat" && test $(($(date +%s) - $(date -d "$beat" +%s))) -lt 300; then
        echo "$before" | grep -qxF "$unit $(steps "$unit")" || continue
    fi
    echo "<4>$unit hangs: it gave no sign of life for too long, and systemd starts it again"
    pid=$(systemctl show -P MainPID "$unit")
    test "$pid" = 0 || kill -KILL "$pid" # 0 would be this script
done
