#!/bin/sh
# adopt.sh DUMP KEY FILE: make a backup FILE, as airflow-restore --trust takes it, of an Airflow that
# this deploy did not make, such as an Airflow 2. DUMP is its database as pg_dump -Fc wrote it, KEY a
# file with its fernet_key. airflow-restore lets Airflow migrate it. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 3 ] || usage
umask 077
dump=$(readlink -f "$1") key=$(readlink -f "$2")
case $3 in /*) file=$3 ;; *) file=$PWD/$3 ;; esac
pg_restore --list "$dump" 2>/dev/null | grep -q ' TABLE DATA public alembic_version ' ||
    fail "$1 is no dump of Airflow's database that $(pg_restore --version) can read: make it with pg_dump -Fc"
# Airflow takes several keys, of which it encrypts with the first.
/usr/bin/python3 -c "import base64, sys; keys = sys.stdin.read().split(','); \
assert all(len(base64.urlsafe_b64decode(each.strip())) == 32 for each in keys)" <"$key" 2>/dev/null ||
    fail "$2 has no fernet key: it should be the output of 'airflow config get-value core fernet_key'"

work=$(mktemp -d "$STATE/adopt.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/etc/airflow/secrets"
printf 'AIRFLOW__CORE__FERNET_KEY=%s\n' "$(tr -d ' \n' <"$key")" >"$work/etc/airflow/secrets/fernet-key"
# Without the folders, whose owners and modes stay as they are.
tar -C "$work" --owner=0 --group=0 -cf "$work/host.tar" etc/airflow/secrets/fernet-key
ln -s "$dump" "$work/database.dump"
# Its version is not known, but older than this host's. A database is larger than its dump.
cat >"$work/about" <<END
made $(date -u -r "$dump" '+%Y-%m-%d %H:%M UTC') from $dump
size $(($(stat -c %s "$dump") * 10))
migrated 2-adopted unknown unknown
image unknown
END
cd "$work"
sha256sum about database.dump host.tar >SHA256SUMS
tar --dereference -cf "$file.new" SHA256SUMS about database.dump host.tar
replace "$file"
