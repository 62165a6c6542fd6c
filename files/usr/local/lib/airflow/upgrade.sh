#!/bin/sh
# upgrade.sh check|apply VENV [elsewhere]: Airflow is stopped and backed up if VENV, the name of the wanted
# virtual environment, is not the one that the database's schema came from. Tasks that run wait for
# the services of the new version. With the word elsewhere another host makes the backup. Of several hosts
# that may change one by one, none is stopped here. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 2 ] || [ "$#,${3-}" = 3,elsewhere ] || usage

# The backup while the upgrade is under way. After a kill it is there already: a second one would
# hold an Airflow that is half upgraded. But a backup that was made while Airflow ran lacks the
# changes since then.
ran=$BACKUPS/$BACKUP_PENDING.ran
backed_up() {
    [ -e "$BACKUPS/$BACKUP_PENDING.tar" ] && [ ! -e "$ran" ]
}

case $1 in
check)
    [ ! -s "$MIGRATED" ] || grep -q "^$2 " "$MIGRATED" ||
        fail "Airflow has other packages than $2: $(cat "$MIGRATED")"
    ;;
apply)
    backup=$here/../../bin/airflow-backup
    if [ -n "${3-}" ]; then
        # shellcheck disable=SC2086 # a list
        systemctl stop $UNITS
        exit
    fi
    backed_up || "$backup" --check
    if [ -n "${SEVERAL_HOSTS-}" ] && "$here/rolling.py" check "$2" 2>/dev/null; then
        : >"$ran"
        "$backup" "$BACKUP_PENDING" >/dev/null
        exit
    fi
    # shellcheck disable=SC2086 # a list
    systemctl stop $UNITS
    backed_up || "$backup" "$BACKUP_PENDING" >/dev/null || {
        systemctl start airflow.target
        [ -z "${SEVERAL_HOSTS-}" ] || fail "the other hosts are stopped: deploy again, or run" \
            "systemctl start airflow.target on each"
        exit 1
    }
    rm -f "$ran"
    ;;
*) usage ;;
esac
