#!/bin/sh
# purge.sh check|apply RECORD PAGE PACKAGES:FOLDER...: the Debian packages that RECORD lists are gone,
# with the files in each FOLDER that their programs wrote and dpkg does not know, unless one of
# PACKAGES (a,b) is left, which was there before; and with nginx its welcome page. The removal sends
# this text to the host with the arguments on top.
set -eu
export DEBIAN_FRONTEND=noninteractive
export NEEDRESTART_SUSPEND=1 # it would restart services, such as those of pods and of PostgreSQL
[ $# -ge 3 ] || {
    echo "usage: purge.sh check|apply RECORD PAGE PACKAGES:FOLDER..." >&2
    exit 2
}
action=$1 record=$2 page=$3
shift 3

if [ "$action" = check ]; then
    [ ! -e "$record" ] || {
        echo "$record lists packages that came with the deploy" >&2
        exit 1
    }
    exit 0
fi

purge() {
    # Another apt may be at work, such as that of unattended-upgrades. This one waits for dpkg's
    # lock. apt can't wait for the lock of its archives, so it gets an empty folder of its own for
    # them.
    # shellcheck disable=SC2046 # a list
    apt-get -qq -o DPkg::Lock::Timeout=900 -o Dir::Cache::Archives="$archives" purge --yes "$@" $(
        dpkg-query -Wf '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p' | sort -u |
            comm -12 - "$record.sorted"
    )
}

archives=$record.archives
mkdir -p "$archives/partial"
sort -u "$record" >"$record.sorted"
more=$(
    purge --simulate | awk '/^(Purg|Remv)/ {print $2}' | sort -u | comm -23 - "$record.sorted"
)
[ -z "$more" ] || {
    # shellcheck disable=SC2086 # a list
    echo "other packages need some of those that came with the deploy, remove them first:" $more >&2
    exit 1
}
purge >/dev/null
rm -r "$archives"
is_left() { # whether one of the packages $1 is installed
    # shellcheck disable=SC2046 # words
    dpkg-query -Wf '${db:Status-Status}\n' $(echo "$1" | tr , ' ') 2>/dev/null | grep -qx installed
}

for each; do
    folder=${each#*:}
    ! is_left "${each%%:*}" || continue
    # A mount point stays, emptied.
    [ ! -e "$folder" ] || find "$folder" -mindepth 1 -delete || true
    rmdir "$folder" 2>/dev/null || true
done
# Somebody may have files there.
rmdir /etc/cni/net.d /etc/cni /etc/postgresql /var/lib/postgresql /var/log/postgresql 2>/dev/null || true
if [ ! -e /usr/sbin/nginx ]; then
    rm -f "$page"
    rmdir -p "$(dirname "$page")" 2>/dev/null || true
fi
rm "$record" "$record.sorted"
