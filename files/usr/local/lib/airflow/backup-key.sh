#!/bin/sh
# backup-key.sh check|apply: the host has the key with which it signs its backups, in BACKUP_KEY.
# Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 1 ] || usage

case $1 in
check) [ -s "$BACKUP_KEY" ] || fail "there is no $BACKUP_KEY" ;;
apply)
    umask 077
    /usr/bin/python3 -c 'import secrets; print(secrets.token_hex(32))' >"$BACKUP_KEY.new"
    replace "$BACKUP_KEY"
    ;;
*) usage ;;
esac
