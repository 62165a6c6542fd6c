#!/bin/sh
# lost-secret.sh NAME: fails with a cure if the lost secret NAME can't be made again, since data in
# the database needs it. The jwt-secret and the api-secret-key can be made again: that ends only the
# tokens of running tasks and the sessions of people. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 1 ] || usage
case " $MADE_SECRETS " in *" $1 "*) ;; *) usage ;; esac

count() {
    "$here/ask-owner.sh" -c "$1" ||
        fail "$lost, and the database does not tell whether its data needs it: $DATABASE_HELP"
}

# Print the newest backup with the secret, of those that are not encrypted.
backup() {
    backups '*' | grep '\.tar$' | while read -r each; do
        tar -xOf "$each" host.tar 2>/dev/null | tar -xO "$file" 2>/dev/null | grep -q . || continue
        echo "$each"
        break
    done
}

[ -s "$MIGRATED" ] || exit 0
lost="$SECRETS/$1 is lost or empty" file=${SECRETS#/}/$1
case $1 in
fernet-key)
    found=$(count "select (select count(*) from public.connection where is_encrypted or is_extra_encrypted)
        + (select count(*) from public.variable where is_encrypted) + (select count(*) from public.trigger)")
    [ "$found" -gt 0 ] || exit 0
    lost="$lost, and $found connections, variables and triggers are encrypted with it"
    from=$(backup)
    [ -z "$from" ] ||
        fail "$lost. Bring it back from a backup, then deploy again:" \
            "sudo tar -xOf $from host.tar | sudo tar -xC / $file"
    # Nobody but the holder of the private key can look into an encrypted one.
    from=$(backups '*' | grep -m 1 '\.age$' || true)
    [ -z "$from" ] ||
        fail "$lost. Bring it back from a backup with the private key of retention_backup_recipient, then deploy again:" \
            "sudo age --decrypt -i KEY_FILE $from | tar -xO host.tar | sudo tar -xC / $file"
    fail "$lost. No readable backup in $BACKUPS has it: bring one back from elsewhere. Without the key" \
        "nobody can read them: delete them, then deploy again:" \
        "sudo $here/owner.sh psql -c 'delete from connection; delete from variable; delete from trigger'"
    ;;
admin-password)
    found=$(count "select count(*) from public.ab_user where username = '$ADMIN_USER'")
    [ "$found" = 0 ] ||
        fail "$lost, and the user $ADMIN_USER has it: sudo airflow-rotate admin-password makes a new one," \
            "then deploy again"
    ;;
esac
