#!/bin/sh
# shared-files.sh print KIND: print an archive, as text, of the files of a kind that all hosts of this
# Airflow should have the same.
# shared-files.sh check|apply KIND: this host has the files of the archive in the standard input.
# shared-files.sh sums: print the checksums of the configuration, and that of the virtual environment's
# name, which says what is in it. Written by the deploy of Airflow.
#
# The files are secrets, so they are unpacked into memory, where only root sees them.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
folder=${DEPLOY_LOCK%/*}
case ${2-} in
secrets) files=$SHARED_SECRETS ;;
authority) files=$SHARED_AUTHORITY ;;
image) files=$WORKER_DIGESTS ;;
users) files=$SHARED_USERS ;;
backups) files=$BACKUP_KEY ;;
rotation) files="$SECRETS/jwt-secret.next $JWT_KEYS" ;; # the mark of a change goes last
requirements) files=$EXTRA_LOCK ;;
*) files= ;;
esac
case ${1-},${files:+known} in print,known | check,known | apply,known | sums,) ;; *) usage ;; esac

# The files that are there, by their paths below the root.
there() {
    for each in $files; do
        [ ! -e "$each" ] || echo "${each#/}"
    done
}

unpack() {
    install -d -m 700 "$folder"
    rm -rf "$folder"/shared.* # of a run that was killed
    work=$(mktemp -d "$folder/shared.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    base64 -d | tar -C "$work" -xp
    [ -n "$(find "$work" -type f -size +0)" ] || fail "the archive is empty"
    # The lock of an environment that is there stays true: the sums tell whether it differs.
    locked=$(sed -n 's/^# For //p' "$work$EXTRA_LOCK" 2>/dev/null || true)
    [ -z "$locked" ] || [ ! -e "$locked/.complete" ] || exit 0
}

case $1 in
print)
    found=$(there)
    [ -n "$found" ] || fail "there is none of these files yet: $files"
    # shellcheck disable=SC2086 # a list
    tar -C / --sort=name --numeric-owner -c $found | base64
    ;;
check)
    unpack
    for each in $files; do
        [ ! -e "$work$each" ] || diff -rq "$work$each" "$each" >/dev/null 2>&1 ||
            fail "$each differs from the first host's"
        # By the time at which each was made, preflight knows a host that comes back with old ones.
        [ ! "$work$each" -nt "$each" ] || fail "$each has another time than the first host's"
    done
    ;;
apply)
    unpack
    for each in $files; do
        [ -e "$work$each" ] || continue
        rm -rf "$each.new"
        cp -a "$work$each" "$each.new"
        [ ! -d "$each" ] || rm -rf "$each"
        replace "$each"
    done
    ;;
sums)
    sha256sum "$CONFIG" "$DAGS_ENV" "$POD_TEMPLATE"
    # The lock of an earlier environment stays, and a host that joins has none.
    ! grep -qsxF "# For $(readlink -f "$VENV")" "$EXTRA_LOCK" || sha256sum "$EXTRA_LOCK"
    readlink -f "$VENV" | sha256sum | sed "s|-$|$VENV|"
    ;;
esac
