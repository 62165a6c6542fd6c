#!/bin/sh
# git-asked.sh check|apply KEY: all git repositories of the DAG bundles answered with the settings
# that KEY names, and with their connections as they are. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 2 ] || usage
asked=$STATE/git-asked

state() {
    echo "$1"
    cat "$GIT_CONNECTIONS" 2>/dev/null || true
}

case $1 in
# A repository that answered is not asked again: a server that is down for a while is no reason to
# fail.
check)
    state "$2" | cmp -s - "$asked" ||
        fail "the git repositories were not asked with these settings and connections"
    ;;
apply)
    "$RUN" python "$here/git-ask.py" || fail "The rest of the deploy is done. The next one asks again."
    state "$2" >"$asked.new"
    replace "$asked"
    ;;
*) usage ;;
esac
