#!/bin/sh
# smoke-test.sh check|apply: the smoke test passed with the configuration that the host has now.
# Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 1 ] || usage

state() {
    # shellcheck disable=SC2086 # a list; with some settings a file of it is missing
    cat $SMOKE_TEST_INPUTS 2>/dev/null | sha256sum
}

case $1 in
check)
    [ "$(state)" = "$(cat "$SMOKE_TEST_PASSED" 2>/dev/null)" ] ||
        fail "the smoke test has not passed since the last change of the configuration"
    ;;
apply)
    "$here/../../bin/airflow-smoke-test"
    state >"$SMOKE_TEST_PASSED"
    ;;
*) usage ;;
esac
