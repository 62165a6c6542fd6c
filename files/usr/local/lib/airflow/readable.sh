#!/bin/sh
# readable.sh check|apply FOLDER USER...: these users can read all files in FOLDER, also those that
# people of another umask make there later. Written by the deploy of Airflow.
#
# A default ACL takes the place of the umask. Only a file that is brought with a mode of its own, as
# scp -p does, can still be closed; the next deploy opens it.
set -u
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -ge 3 ] || usage
action=$1 folder=$2
shift 2
cd / || exit

case $action in
check)
    for user; do
        getfacl -cp "$folder" | grep -qx "default:user:$user:r-x" ||
            fail "$folder has no default ACL for $user"
        closed=$(runuser -u "$user" -- find "$folder" \
            \( -type d ! \( -readable -executable \) -o -type f ! -readable \) -print -quit 2>/dev/null)
        [ -z "$closed" ] || fail "$user can't read $closed"
    done
    ;;
apply)
    for user; do
        entry=u:$user:rX
        setfacl -R -m "$entry,d:$entry" "$folder" || fail "$folder needs a file system with ACLs" \
            "(with ZFS: zfs set acltype=posix), so that $user can read what others put there"
    done
    ;;
*) usage ;;
esac
