#!/bin/sh
# git-connections.sh check|apply CONNECTION...: GIT_CONNECTIONS has the checksums of the connections
# of git repositories, as Airflow has them now. The dag-processor reads connections only when it
# starts, and so starts again when this file changes. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# -ge 2 ] || usage
case $1 in check | apply) ;; *) usage ;; esac
action=$1
shift

# The secret parts of a connection are encrypted, and differ each time it is saved.
sums=$(
    "$here/ask-owner.sh" -v "ids=$*" <<'END'
select conn_id, md5(connection::text) from public.connection
where conn_id = any(string_to_array(:'ids', ' ')) order by 1
END
)
case $action in
check)
    printf '%s' "${sums:+$sums
}" | cmp -s - "$GIT_CONNECTIONS" ||
        fail "connections of git repositories changed since they were recorded for the dag-processor"
    ;;
apply)
    printf '%s' "${sums:+$sums
}" >"$GIT_CONNECTIONS.new"
    replace "$GIT_CONNECTIONS"
    ;;
esac
