#!/bin/sh
# clean-logs.sh: delete logs older than LOG_DAYS, and folders that have been empty for a day. In a
# claim, which may have files of others, only log files are deleted. A folder that can not be read,
# as another user's, keeps no other from being cleaned, and ends this with 1. Written by the deploy
# of Airflow; airflow-cleanup-logs.timer starts it.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"

failed=0
# A task may have closed a folder of its own user's, in which find would see nothing.
# shellcheck disable=SC2086 # both have several words
find $LOG_FOLDERS $LOG_CLAIMS -mindepth 1 -type d -user "$(id -u)" ! -perm -700 -exec chmod u+rwx {} \; || failed=1
# find counts whole days, and +N means more than N.
old="-mtime +$((LOG_DAYS - 1)) -delete"
# A task can leave more than its log: files of other names, pipes and links.
# shellcheck disable=SC2086
find $LOG_FOLDERS ! -type d $old || failed=1
# shellcheck disable=SC2086
[ -z "$LOG_CLAIMS" ] || find $LOG_CLAIMS -type f -name '*.log' $old || failed=1
# A task may be about to write into a younger folder.
# shellcheck disable=SC2086
find $LOG_FOLDERS $LOG_CLAIMS -mindepth 1 -type d -empty -mtime +0 -delete || failed=1
exit $failed
