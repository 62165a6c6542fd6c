#!/bin/sh
# node-reset.sh check|apply PATTERN...: Kubernetes has left nothing on this host, and no file is like
# one of the patterns. Those with *.mk_disabled are networks of others, which get their own names again.
# The removal sends this text to the host with the arguments on top.
set -eu
action=${1-}
shift
# The names that minikube gives to addresses of the host.
names='[[:space:]][a-z-]*\.minikube\.internal$'

# If / is not shared between namespaces, kubelet mounts its folder over itself, with some restarts more
# than once.
is_mounted_over_itself() {
    findmnt -no FSROOT /var/lib/kubelet | grep -q '/var/lib/kubelet$'
}

left() {
    # shellcheck disable=SC2012,SC2048,SC2086 # patterns
    ls -d $* 2>/dev/null | head -n 1
    grep "$names" /etc/hosts || true
    ! is_mounted_over_itself || echo "/var/lib/kubelet mounted over itself"
}

stop_kubelet_and_pods() {
    systemctl stop kubelet || true
    systemctl disable --quiet kubelet || true
    crictl pods -q | xargs -r crictl rmp --force >/dev/null || true
    ctr -n k8s.io images ls -q | xargs -r ctr -n k8s.io images rm >/dev/null || true
} 2>/dev/null

give_networks_back() { # to other programs, such as a podman that has its networks by CNI
    # shellcheck disable=SC2048 # patterns
    for each in $*; do
        [ "$each" = "${each%.mk_disabled}" ] || mv -n "$each" "${each%.mk_disabled}" 2>/dev/null || true
    done
}

# The mounts below kubelet's folder, also where it is no mount point itself; the deepest first.
volumes() {
    findmnt -rno TARGET | grep '^/var/lib/kubelet/' | sort -r || true
}

# The files of a volume are not the cluster's: one that stays mounted ends the removal.
unmount_volumes() {
    volumes | while IFS= read -r each; do umount "$(printf '%b' "$each")" || true; done
    left=$(volumes)
    [ -z "$left" ] || {
        echo "these volumes are busy, and their files would be deleted: end the processes that" \
            "fuser -vm shows for them, then run the removal again:" "$left" >&2
        exit 1
    }
    while is_mounted_over_itself; do umount /var/lib/kubelet; done
}

case $action in
check)
    found=$(left "$@")
    [ -z "$found" ] || {
        echo "Kubernetes left $(echo "$found" | head -n 1)" >&2
        exit 1
    }
    ;;
apply)
    stop_kubelet_and_pods
    give_networks_back "$@"
    unmount_volumes
    find /etc/ssl/certs -lname '*/minikubeCA.pem' -delete
    sed -i "/$names/d" /etc/hosts
    # Mount points stay, emptied.
    # shellcheck disable=SC2048,SC2086 # patterns
    rm -rf --one-file-system $* 2>/dev/null || true
    rmdir /var/lib/kubelet /var/lib/cni/* /var/lib/cni 2>/dev/null || true
    systemctl daemon-reload
    ;;
*)
    echo "usage: node-reset.sh check|apply PATTERN..." >&2
    exit 2
    ;;
esac
