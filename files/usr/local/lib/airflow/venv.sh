#!/bin/sh
# venv.sh check|apply VENV PYTHON LOCK [REQUIREMENT...]: the virtual environment VENV is complete and
# compiled: it has the packages of the file LOCK, and what the REQUIREMENTs need beyond it.
# Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -ge 4 ] || usage
action=$1 venv=$2 python=$3 lock=$4
shift 4

install() {
    uv pip install --quiet --python "$venv/bin/python" --compile-bytecode "$@"
}

# The lock wins over the additional requirements. Where there is what it takes, they may be built.
install_more() {
    wheels="--only-binary :all:"
    [ -z "$BUILDS_PACKAGES" ] || wheels=
    # shellcheck disable=SC2086 # two words
    install $wheels --constraint "$lock" "$@" || fail "airflow_extra_requirements: they can't be installed." \
        "Where a package has no wheel, name the Debian packages that build it in build_apt_packages" \
        "(such as build-essential, python3-dev and its headers), or an index with its wheel in build_indexes"
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
    install --only-binary :all: --require-hashes -r "$lock"
    [ $# = 0 ] || install_more "$@"
    rm -f "$venv/.lock" # uv leaves it behind, and every user could write to it
    touch "$venv/.complete"
    ;;
*) usage ;;
esac
