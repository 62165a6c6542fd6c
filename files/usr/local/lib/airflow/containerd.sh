#!/bin/sh
# containerd.sh check|apply DROP_IN: containerd, which fetches the images of pods, runs with the
# host's proxy if there is one, by the file DROP_IN of its unit. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
drop_in=$2

wanted() {
    [ -n "$PROXY_URL" ] || return 0
    echo "# Written by the deploy of Airflow."
    echo "[Service]"
    for name in HTTP_PROXY HTTPS_PROXY; do echo "Environment=\"$name=$PROXY_URL\""; done
    echo "Environment=\"NO_PROXY=$PROXY_EXCEPTIONS\""
}

# Does the process have the variables? A deploy may have been killed before it restarted.
is_told() {
    environment=/proc/$(systemctl show -P MainPID containerd)/environ
    grep -qzxF -e "HTTPS_PROXY=$PROXY_URL" "$environment" &&
        grep -qzxF -e "NO_PROXY=$PROXY_EXCEPTIONS" "$environment"
}

case $1 in
check)
    if [ -z "$PROXY_URL" ]; then
        [ ! -e "$drop_in" ] && [ ! -e "$drop_in.old" ] ||
            fail "containerd has a proxy by $drop_in, and should have none"
    else
        wanted | cmp -s - "$drop_in" || fail "$drop_in does not have the proxy $PROXY_URL"
        is_told 2>/dev/null || fail "containerd runs without the proxy $PROXY_URL"
    fi
    ;;
apply)
    if [ -n "$PROXY_URL" ]; then
        mkdir -p "${drop_in%/*}"
        wanted >"$drop_in.new"
        mv "$drop_in.new" "$drop_in"
    elif [ -e "$drop_in" ]; then
        # This file says that containerd needs a restart, until it had one.
        mv "$drop_in" "$drop_in.old"
    fi
    # Pods run on meanwhile.
    systemctl daemon-reload
    systemctl restart containerd
    rm -f "$drop_in.old"
    rmdir "${drop_in%/*}" 2>/dev/null || true # the folder may hold a drop-in of an admin
    ;;
*) usage ;;
esac
