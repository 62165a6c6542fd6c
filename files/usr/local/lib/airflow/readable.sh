#!/bin/sh
# readable.sh check|apply FOLDER USER...: these users can read all files in FOLDER, also those that
# people of another umask make there later. Written by the deploy of Airflow.
#
# A default ACL takes the place of the umask. Only a file that is brought with a mode of its own, as
# scp -p does, can still be closed; the next deploy opens it.
set -u
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# -ge 3 ] || usage
action=$1 folder=$2
shift 2
cd / || exit

case $action in
check)
    for user; do
        "$here/acl.py" check "$folder" "u:$user:rX" || exit
        closed=$(runuser -u "$user" -- find "$folder" \
            \( -type d ! \( -readable -executable \) -o -type f ! -readable \) -print -quit 2>/dev/null)
        [ -z "$closed" ] || fail "$user can't read $closed"
    done
    ;;
apply)
    for user; do
        "$here/acl.py" apply "$folder" "u:$user:rX" ||
            fail "$user can't read files that others put into $folder"
    done
    ;;
*) usage ;;
esac
