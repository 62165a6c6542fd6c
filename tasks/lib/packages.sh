#!/bin/sh
# packages.sh RECORD PACKAGE...: install Debian packages, and add to the file RECORD those that came
# with them. The operation sends this text, since the deploy's programs come later than packages.
set -eu
record=$1
shift
export DEBIAN_FRONTEND=noninteractive
export NEEDRESTART_SUSPEND=1 # it would restart services, such as those of pods and of PostgreSQL

# Print the names of the packages that are installed.
installed() {
    dpkg-query -Wf '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p' | sort -u
}

# Run a command, and repeat it while another program holds a lock, such as a nightly upgrade or the
# apt of a killed run. apt itself waits only for dpkg's lock, not for those of its lists and
# archives.
patiently() {
    for _ in $(seq 180); do
        # Not by a pipe: a daemon that a package starts may keep it open.
        LC_ALL=C "$@" >/dev/null 2>"$record.errors" && rm "$record.errors" && return
        case $(cat "$record.errors") in
        *" lock /var/lib/apt/lists/"* | *" lock /var/cache/apt/archives/"*) sleep 5 ;;
        *"lock was locked by another process"* | *"status database is locked"*) sleep 5 ;;
        *) break ;;
        esac
    done
    cat "$record.errors" >&2
    return 1
}

apt() {
    patiently apt-get -qq -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=900 "$@"
}

# Packages unpack programs that ask their questions, and /tmp may forbid programs (noexec).
export TMPDIR="${record%/*}/tmp"
install -d -m 700 "${record%/*}" "$TMPDIR"
# The list of the packages from before stays until the record is complete, also after a kill.
[ -e "$record.before" ] || {
    installed >"$record.new"
    mv "$record.new" "$record.before"
}
# Packages that a run left half installed when the power went: apt would refuse all work.
patiently dpkg --force-confold --configure -a
# An index with a wrong signature is an error, even if an older one could be used.
apt update --error-on=any
# Debian's nginx begins with a site that listens at [::]. On a kernel without IPv6 it would not start,
# and stay half installed. It adds no site where one of that name is, even an empty one, which is of no
# effect if this run is killed.
welcome=/etc/nginx/sites-enabled/default
case " $* " in
*" nginx "*)
    [ -e /proc/net/if_inet6 ] || [ -e "$welcome" ] || {
        mkdir -p "${welcome%/*}"
        touch "$welcome"
    }
    ;;
esac
# Nothing of others' may go: a package that conflicts with one of theirs is an error.
apt install --yes --no-install-recommends --no-remove "$@"
[ -e /proc/net/if_inet6 ] || [ -s "$welcome" ] || rm -f "$welcome"
installed | comm -13 "$record.before" - >>"$record"
rm "$record.before"
