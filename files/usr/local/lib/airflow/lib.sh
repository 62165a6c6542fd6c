#!/bin/sh
# Shared by the programs beside it, which read this file at their beginning. It reads the values of
# this host and defines the functions below.
# In tests, AIRFLOW_HOST_ENV names another file of values.

# shellcheck disable=SC1090
. "${AIRFLOW_HOST_ENV:-/etc/airflow/host.env}"

# A program does the same for every caller: the deploy, a unit, or a person with a umask, a language
# or a proxy of their own. tasks/lib/shell.py does this for the deploy's other commands.
umask 022
export LC_ALL=C.UTF-8
unset http_proxy https_proxy ftp_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY
if [ -n "${PROXY_URL-}" ]; then
    export http_proxy="$PROXY_URL" https_proxy="$PROXY_URL" no_proxy="$PROXY_EXCEPTIONS"
    export HTTP_PROXY="$PROXY_URL" HTTPS_PROXY="$PROXY_URL" NO_PROXY="$PROXY_EXCEPTIONS"
fi
# Debian's programs of PostgreSQL otherwise choose among several clusters by their ports.
unset PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS
if [ -n "${PGCLUSTER-}" ]; then export PGCLUSTER; else unset PGCLUSTER; fi
# /tmp may forbid programs (noexec), and others can see the names in it.
if [ "$(id -u)" = 0 ] && [ -w "${TEMPORARY-}" ]; then export TMPDIR="$TEMPORARY"; fi

# Pass on the words of pods and other programs, without characters that would drive a terminal.
printable() { LC_ALL=C tr -d '\000-\010\013-\037\177'; }

# Say what is wrong, and end.
fail() {
    printf '%s\n' "$*" | printable >&2
    exit 1
}

# Show how the program is called, as the comment at its top says it, and end.
usage() {
    sed -n "s/^# \(${0##*/}[^:]*\):.*/usage: \1/p" "$0" >&2
    exit 2
}

# Put FILE.new in the place of FILE. After a loss of power, FILE has its old content or its new one.
replace() { # FILE [OWNER MODE]
    [ $# = 1 ] || { chown "$2" "$1.new" && chmod "$3" "$1.new"; } || return
    sync "$1.new" && mv -T "$1.new" "$1" && sync "$(dirname "$1")"
}

# Fail unless a unit runs, and started with its inputs as they are now. When a unit starts, it
# records the checksums of the files that it reads in /run/airflow/UNIT.
check_unit() {
    state=$(systemctl is-active "$1")
    [ "$state" = active ] || fail "$1 is $state"
    changed=$(sha256sum --check --quiet "$STARTED_WITH/$1" 2>/dev/null) ||
        fail "$1 started before its inputs changed: $(echo "$changed" | paste -sd,)"
}

# Show the last words of a unit, beside the error about it.
last_words() { journalctl -u "$1" -n 30 -o cat --no-pager | printable >&2; }

# Print the backups of one kind, or of all (*), the newest first, by the time in their names: the
# time of a file changes with each copy. before-upgrade-pending, of an upgrade that is under way, is
# the newest.
backups() { # KIND
    find "$BACKUPS" -maxdepth 1 -name "$1-*.tar*" | sed -n 's/^.*-\([0-9]\{8\}T[0-9]\{6\}Z\|pending\)\.tar\(\.age\)\?$/\1 &/p' |
        LC_ALL=C sort -r | cut -d' ' -f2-
}

# uv, which installs Python packages. It trusts the host's certificates, so also an organisation's
# own authority, and it copies files, so no virtual environment shares its content with a cache.
uv() {
    package_settings env UV_SYSTEM_CERTS=true UV_LINK_MODE=copy UV_NO_PROGRESS=true "$UV/bin/uv" "$@"
}

# Run a command with the inventory's package indexes, logins and authority, which uv and pip read.
package_settings() (
    [ -z "$PACKAGE_INDEXES" ] || set -- env UV_CONFIG_FILE="$PACKAGE_INDEXES" "$@"
    [ -z "$DEFAULT_INDEX" ] || set -- env PIP_INDEX_URL="$DEFAULT_INDEX" "$@"
    [ -z "$PACKAGE_AUTHORITY" ] || set -- env SSL_CERT_FILE="$PACKAGE_AUTHORITY" "$@"
    set -- env PIP_CERT="${PACKAGE_AUTHORITY:-/etc/ssl/certs/ca-certificates.crt}" "$@"
    if [ -e "$PACKAGE_LOGINS" ]; then
        # NETRC takes the place of root's own file, so it has both; the inventory's logins win.
        NETRC=$(mktemp) && export NETRC
        trap 'rm -f "$NETRC"' EXIT
        "$(dirname "$(readlink -f "$0")")/package-logins.py" ~/.netrc "$PACKAGE_LOGINS" >"$NETRC"
    fi
    "$@"
)

# Print the digest by which pods name an image, if there is one.
pinned_digest() { # IMAGE
    awk -v image="$1" '$1 == image { print $2 }' "$WORKER_DIGESTS" 2>/dev/null || true
}

# Remember an image's digest, empty if no registry gives it one. A tag is not enough: anybody who
# may push to the registry can give it to another image.
pin_image() { # IMAGE DIGEST
    {
        awk -v image="$1" '$1 != image' "$WORKER_DIGESTS" 2>/dev/null | tail -n 50
        echo "$1 $2"
    } >"$WORKER_DIGESTS.new" && replace "$WORKER_DIGESTS"
}

# kubectl in Airflow's namespace, with the rights of the deploy.
kube() { $KUBECTL -n "$NAMESPACE" "$@"; }
