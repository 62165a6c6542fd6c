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

install() {
    uv pip install --quiet --python "$venv/bin/python" --only-binary :all: --compile-bytecode "$@"
}

is_public() {
    [ ! -e "$venv/bin" ] || [ -n "$(find "$venv/bin" -maxdepth 0 -perm -005)" ]
}

case $action in
check)
    [ -e "$venv/.complete" ] || fail "$venv is not complete"
    is_public || fail "the services' users can't read $venv"
    ;;
apply)
    # It may be of a deploy that had the umask of its login.
    is_public || chmod -R go+rX "$venv"
    [ ! -e "$venv/.complete" ] || exit 0
    rm -rf "$venv"
    uv venv --quiet --python "$python" "$venv"
    install --require-hashes -r "$lock"
    # The lock wins over the additional requirements.
    [ $# = 0 ] || install --constraint "$lock" "$@"
    rm -f "$venv/.lock" # uv leaves it behind, and every user could write to it
    touch "$venv/.complete"
    ;;
*) usage ;;
esac
