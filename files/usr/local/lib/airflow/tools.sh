#!/bin/sh
# tools.sh check|apply uv|sbom PYTHON: uv, which installs Airflow, is in a virtual environment of its
# own, of PYTHON; or the programs that list the worker image's packages are in the same one. Both are
# as their lock files say, with hashes. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 3 ] || usage

install_uv() {
    rm -rf "$UV"
    "$python" -m venv "$UV"
    package_settings "$UV/bin/pip" --quiet --disable-pip-version-check \
        install --require-hashes --only-binary :all: -r "$lock"
}

install_sbom() {
    # Also after an error: otherwise the next run would take uv itself for changed.
    trap 'rm -f "$UV/.lock"' EXIT
    uv pip install --quiet --python "$UV/bin/python" --only-binary :all: --require-hashes -r "$lock"
}

# The record is a copy of the lock file that was installed last.
case $2 in
uv) record=$UV/installed.txt ;;
sbom) record=$UV/installed-sbom.txt ;;
*) usage ;;
esac
lock=$REQUIREMENTS/$2.txt python=$3
case $1 in
check)
    cmp -s "$lock" "$record" || fail "$UV does not have the packages of $lock"
    # It has its packages in a folder of its Python, which changes with a new Debian.
    [ -d "$UV/lib/${python##*/}" ] || fail "$UV is not of the host's ${python##*/}"
    # uv leaves it behind, and every user could write to it.
    [ ! -e "$UV/.lock" ] || fail "uv left its lock in $UV"
    ;;
apply)
    case $2 in
    uv) install_uv ;;
    sbom) install_sbom ;;
    esac
    cp "$lock" "$record"
    ;;
*) usage ;;
esac
