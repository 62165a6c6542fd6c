#!/bin/sh
# keep-used.sh check|apply RECORD POSTGRES NGINX SITE NODE ENGINE:PACKAGE,...: RECORD lists the
# Debian packages that came with the deploy, but none that others use by now, and no dependency of
# these. Others use the server of a cluster in PostgreSQL's folder POSTGRES that is not Airflow's,
# nginx if its folder NGINX has a site other than SITE and Debian's own, nftables if its unit is
# enabled, and an ENGINE that has a container other than NODE. `check` says which and why. The
# removal sends this text to the host with the arguments on top.
set -u # but not -e: a shell ignores that while it tests a command, and so in `check`
[ $# -ge 6 ] || {
    echo "usage: keep-used.sh check|apply RECORD POSTGRES NGINX SITE NODE ENGINE:PACKAGE,..." >&2
    exit 2
}
action=$1 record=$2 postgres=$3 nginx=$4 site=$5 node=$6
shift 6
[ -e "$record" ] || exit 0
kept='' said=''

# Print those of the packages that are installed, and all that they need, as far as the record lists
# them.
needed() {
    there=$(dpkg-query -Wf '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
        sed -n 's/^installed //p')
    [ -n "$there" ] || return 0
    # shellcheck disable=SC2086 # a list
    all=$(apt-cache depends --recurse --important --installed $there) || return
    echo "$all" | sed -n 's/^\([a-z0-9][^: ]*\).*/\1/p' | sort -u | grep -xFf "$record" || [ $? = 1 ]
}

stays() { # others use the packages $2... by now, because of $1
    reason=$1
    shift
    found=$(needed "$@") || exit
    [ -n "$found" ] || return 0
    said="$said${said:+, }$1 ($reason)"
    kept="$kept$found
"
}

clusters() { # those that purging their server would drop
    for each in "$postgres"/*/*/postgresql.conf; do
        [ -e "$each" ] || continue
        cluster=${each#"$postgres/"}
        cluster=${cluster%/*}
        server=postgresql-${cluster%/*}
        # Where the server came with the deploy, the cluster main is Airflow's own.
        [ "${cluster#*/}" != main ] || ! grep -qx "$server" "$record" || continue
        stays "cluster $cluster" "$server"
    done
}

is_debians() { # Whether a file is nginx's welcome page, as Debian has it
    [ "$1" -ef "$nginx/sites-available/default" ] && ! dpkg -V nginx-common | grep -q '/default$'
}

sites() {
    for each in "$nginx"/sites-enabled/* "$nginx"/conf.d/*.conf; do
        [ -e "$each" ] || continue
        [ "$each" -ef "$site" ] || is_debians "$each" || {
            stays "$each" nginx
            return
        }
    done
}

containers() { # of the engine and its packages $1
    engine=${1%%:*} packages=${1#*:}
    grep -qx "${packages%%,*}" "$record" && command -v "$engine" >/dev/null || return 0
    listed=$("$engine" ps --all --format '{{.Names}}') || exit
    other=$(echo "$listed" | grep -vxF "$node" | head -n 1)
    # shellcheck disable=SC2046 # words
    [ -z "$other" ] || stays "container $other" $(echo "$packages" | tr , ' ')
}

# A firewall in /etc/nftables.conf, which purging the package would delete.
! systemctl -q is-enabled nftables.service 2>/dev/null || stays nftables.service nftables
clusters
sites
for each; do containers "$each"; done
[ -n "$kept" ] || exit 0
case $action in
check)
    echo "these packages came with the deploy and stay, since others use them: $said" >&2
    exit 1
    ;;
apply)
    echo "$kept" | grep -vxFf - "$record" >"$record.new"
    [ $? -le 1 ] && mv "$record.new" "$record" # 1: all of them stay
    ;;
esac
