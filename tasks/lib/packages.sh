#!/bin/sh
# packages.sh RECORD PACKAGE...: install Debian packages, and add to the file RECORD those that came
# with them. The operation sends this text, since the deploy's programs come later than packages.
set -eu
record=$1
shift
export DEBIAN_FRONTEND=noninteractive

# Print the names of the packages that are installed.
installed() {
    dpkg-query -Wf '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p' | sort -u
}

# Another program, or the apt of a killed run, may hold the lock for some minutes.
apt() {
    apt-get -qq -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=900 "$@"
}

# Packages unpack programs that ask their questions, and /tmp may forbid programs (noexec).
export TMPDIR="${record%/*}/tmp"
install -d -m 700 "${record%/*}" "$TMPDIR"
# The list of the packages from before stays until the record is complete, also after a kill.
[ -e "$record.before" ] || {
    installed >"$record.new"
    mv "$record.new" "$record.before"
}
# An index with a wrong signature is an error, even if an older one could be used.
apt update --error-on=any
# Nothing of others' may go: a package that conflicts with one of theirs is an error.
apt install --yes --no-install-recommends --no-remove "$@" >/dev/null
installed | comm -13 "$record.before" - >>"$record"
rm "$record.before"
