#!/bin/sh
# venv.sh check|apply VENV PYTHON LOCK [REQUIREMENT...]: the virtual environment VENV is complete and
# compiled: it has the packages of the file LOCK, and those that the REQUIREMENTs need beyond it.
# Written by the deploy of Airflow.
#
# The first success with these REQUIREMENTs locks them, with hashes, in EXTRA_LOCK, and with them
# the tools that build packages without a wheel, such as setuptools. Later the same environment gets
# the same packages, and another one keeps them where it can.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# -ge 4 ] || usage
action=$1 venv=$2 python=$3 lock=$4
shift 4

install() {
    uv pip install --quiet --python "$venv/bin/python" --compile-bytecode "$@"
}

# Write a lock of the requirements in the standard input. The lock of Airflow wins over them, and uv
# keeps the versions that the output file has already where it can.
resolve() {
    cat "$EXTRA_LOCK" >"$EXTRA_LOCK.new" 2>/dev/null || true
    uv pip compile --quiet --python "$venv/bin/python" --constraint "$lock" --generate-hashes \
        --no-header --no-annotate --output-file "$EXTRA_LOCK.new" "$@" - >/dev/null
}

# Run uv so that it names the tools with which it builds, for build-tools.sh; pass its other words on.
building() {
    export RUST_LOG=uv_dispatch=debug
    "$@" 2>"$said" || failed=yes
    unset RUST_LOG
    grep '^DEBUG' "$said" >>"$log" || true
    grep -v '^DEBUG' "$said" >&2 || true
    [ -z "$failed" ] || refuse
}

install_more() {
    # With build_apt_packages, packages may be built.
    wheels="--only-binary :all:"
    [ -z "$BUILDS_PACKAGES" ] || wheels=
    more=$EXTRA_LOCK said=$EXTRA_LOCK.said log=$EXTRA_LOCK.log tools=$EXTRA_LOCK.tools failed=
    trap 'rm -f "$said" "$log" "$tools"' EXIT
    : >"$log"
    # shellcheck disable=SC2086 # two words
    if grep -qsxF "# For $venv" "$more"; then
        "$here/build-tools.sh" constraints "$more" >"$tools"
        [ ! -s "$tools" ] || wheels="$wheels --build-constraints $tools"
    else
        more=$EXTRA_LOCK.new
        printf '%s\n' "$@" | building resolve $wheels
    fi
    # shellcheck disable=SC2086
    building install $wheels --no-deps -r "$more"
    [ "$more" = "$EXTRA_LOCK" ] || {
        printf '%s\n' "# Written by the deploy of Airflow: the lock of airflow_extra_requirements." "# For $venv" >"$more.whole"
        "$here/build-tools.sh" learn "$log" "$EXTRA_LOCK" "$python" >>"$more.whole" || refuse
        cat "$more" >>"$more.whole"
        mv "$more.whole" "$more"
        replace "$EXTRA_LOCK"
    }
}

refuse() {
    fail "airflow_extra_requirements: they can't be installed." \
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
