#!/bin/sh
# health.sh check|apply: all of Airflow's components are healthy. apply waits for up to a minute.
# Written by the deploy of Airflow.
set -u
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"

# A component that lost its connection to PostgreSQL ends up to half a minute later, and is called
# healthy until then. A component that works has given a sign of life since PostgreSQL's start.
alive() { # COMPONENT
    beat=$(echo "$answer" | sed -n "s/.*\"latest_$1_heartbeat\":\"\([^\"]*\)\".*/\1/p")
    [ -z "$beat" ] || [ "$(date -d "$beat" +%s)" -gt "${started:-0}" ]
}

healthy() {
    # The status of the answer is always 200; only its JSON tells.
    answer=$(curl -fsS -m 10 "$WEB_URL/api/v2/monitor/health" 2>&1) || return 1
    [ -z "${SEVERAL_HOSTS-}" ] || answer=$("$here/own-health.sh" 2>&1) || return 1
    for component in metadatabase scheduler dag_processor triggerer; do
        echo "$answer" | grep -q "\"$component\":{\"status\":\"healthy\"" || return 1
        alive "$component" || return 1
    done
}

ask_postgresql() {
    started=
    [ -n "${PGCLUSTER-}" ] || return 0 # a PostgreSQL elsewhere does not tell
    unit=postgresql@${PGCLUSTER%/*}-${PGCLUSTER#*/}
    started=$(systemctl show -P ActiveEnterTimestamp --timestamp=unix "$unit")
    started=${started#@}
}

case ${1-} in
check)
    ask_postgresql
    healthy || fail "Airflow is not healthy: $answer"
    ;;
apply)
    ask_postgresql
    tries=60
    until healthy; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] ||
            fail "Airflow is not healthy after a minute: $answer Look at: journalctl -u 'airflow-*' -n 100"
        sleep 1
    done
    ;;
*) usage ;;
esac
