#!/bin/sh
# containerd.sh check|apply config|proxy FILE [DEFAULTS]: containerd, which fetches the images of pods,
# has the keys that minikube edits in its configuration FILE, or gets it from the file DEFAULTS
# (config); it runs with the host's proxy if there is one, by the file FILE of its unit (proxy).
# Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -ge 3 ] || usage
drop_in=$3

# The lines are here and not in a file that the deploy uploads: only this program may write the file
# and delete it, since containerd needs a restart after each.
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

case "$*" in
"check config "*)
    # minikube edits version 2 of the format only. Debian's own file has none of the keys. A file from
    # an earlier deploy has them, and stays.
    for key in '^version *= *2$' '^ *sandbox_image = '; do
        grep -q "$key" "$3" 2>/dev/null || fail "$3 does not have the keys that minikube edits"
    done
    ;;
"apply config "*)
    mkdir -p "${3%/*}"
    cp "$4" "$3.new"
    mv "$3.new" "$3"
    systemctl restart containerd
    ;;
"check proxy "*)
    if [ -z "$PROXY_URL" ]; then
        [ ! -e "$drop_in" ] && [ ! -e "$drop_in.old" ] ||
            fail "containerd has a proxy by $drop_in, and should have none"
    else
        wanted | cmp -s - "$drop_in" || fail "$drop_in does not have the proxy $PROXY_URL"
        is_told 2>/dev/null || fail "containerd runs without the proxy $PROXY_URL"
    fi
    ;;
"apply proxy "*)
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
