#!/bin/sh
# venv.sh check|apply VENV PYTHON LOCK [REQUIREMENT...]: the virtual environment VENV is complete and
# compiled: it has the packages of the file LOCK, and what the REQUIREMENTs need beyond it.
# Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
usage() {
    echo "usage: venv.sh check|apply VENV PYTHON LOCK [REQUIREMENT...]" >&2
    exit 2
}
[ $# -ge 4 ] || usage
action=$1 venv=$2 python=$3 lock=$4
shift 4

# The system's certificate store, so that uv trusts an organisation's own CA; copies instead of
# links, so that a venv shares no file with uv's cache.
export UV_SYSTEM_CERTS=true UV_LINK_MODE=copy UV_NO_PROGRESS=true

install() {
    "$UV/bin/uv" pip install --quiet --python "$venv/bin/python" \
        --only-binary :all: --compile-bytecode "$@"
}

case $action in
check) [ -e "$venv/.complete" ] || fail "$venv is not complete" ;;
apply)
    [ ! -e "$venv/.complete" ] || exit 0
    rm -rf "$venv"
    "$UV/bin/uv" venv --quiet --python "$python" "$venv"
    install --require-hashes -r "$lock"
    # The lock wins over what the additional requirements would like to change.
    [ $# = 0 ] || install --constraint "$lock" "$@"
    rm -f "$venv/.lock"
    touch "$venv/.complete"
    ;;
*) usage ;;
esac
