#!/bin/sh
# containerd.sh check|apply config|proxy FILE [DEFAULTS]: containerd, which fetches the images of pods,
# has the keys that minikube edits in its configuration FILE, or gets it from the file DEFAULTS
# (config); it runs with the host's proxy if there is one, by the file FILE of its unit (proxy).
# Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# -ge 3 ] || usage
file=$3

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
        grep -q "$key" "$file" 2>/dev/null || fail "$file does not have the keys that minikube edits"
    done
    ;;
"apply config "*)
    mkdir -p "${file%/*}"
    cp "$4" "$file.new"
    replace "$file"
    systemctl restart containerd
    ;;
"check proxy "*)
    if [ -z "$PROXY_URL" ]; then
        [ ! -e "$file" ] && [ ! -e "$file.old" ] ||
            fail "containerd has a proxy by $file, and should have none"
    else
        wanted | cmp -s - "$file" || fail "$file does not have the proxy $PROXY_URL"
        is_told 2>/dev/null || fail "containerd runs without the proxy $PROXY_URL"
    fi
    ;;
"apply proxy "*)
    if [ -n "$PROXY_URL" ]; then
        mkdir -p "${file%/*}"
        wanted >"$file.new"
        replace "$file"
    elif [ -e "$file" ]; then
        # This file says that containerd needs a restart, until it had one.
        mv "$file" "$file.old"
    fi
    # Pods run on meanwhile.
    systemctl daemon-reload
    systemctl restart containerd
    rm -f "$file.old"
    rmdir "${file%/*}" 2>/dev/null || true # the folder may hold a drop-in of an admin
    ;;
*) usage ;;
esac
