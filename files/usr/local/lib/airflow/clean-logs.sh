#!/bin/sh
# clean-logs.sh: delete log files that are older than LOG_DAYS, and folders that have been empty for
# a day. Written by the deploy of Airflow; airflow-cleanup-logs.timer starts it.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"

# find counts whole days, and wants more than these.
# shellcheck disable=SC2086 # LOG_FOLDERS has several
find $LOG_FOLDERS -type f -name '*.log' -mtime "+$((LOG_DAYS - 1))" -delete
# A task may be about to write into a younger folder.
# shellcheck disable=SC2086
find $LOG_FOLDERS -mindepth 1 -type d -empty -mtime +0 -delete
