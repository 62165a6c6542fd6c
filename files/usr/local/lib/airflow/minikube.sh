#!/bin/sh
# minikube.sh start VERSIONS ARGUMENT...: minikube runs Kubernetes in the last one of VERSIONS. A
# cluster of an older minor version goes through those between, one after the other, and pods run on.
# Kubernetes allows it to skip none: https://kubernetes.io/releases/version-skew-policy/
# Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
under_way=$STATE/kubernetes.starting # the version and arguments of a start; left by an interruption
started=$STATE/kubernetes.started    # those of the last start that ended well
away=$STATE/kubernetes.manifests     # in the node: the manifests from before a change
[ $# -ge 3 ] && [ "$1" = start ] || usage
versions=$2
shift 2

# The version of the cluster. The manifest of the API server is right even if a start was
# interrupted, and minikube's profile is all that there is of a cluster elsewhere.
version_there() {
    [ -e "$MINIKUBE_PROFILE" ] || return 0
    $IN_NODE sed -n 's/.*image: .*kube-apiserver:v\([0-9.]*\).*/\1/p' "$API_SERVER_MANIFEST" \
        "$away/${API_SERVER_MANIFEST##*/}" 2>/dev/null | head -n 1 | grep . ||
        /usr/bin/python3 -c "import json; print(json.load(open('$MINIKUBE_PROFILE'))['KubernetesConfig']['KubernetesVersion'][1:])" 2>/dev/null || true
}

# Is the minor version of $1 older than that of $2?
is_older() {
    [ "${1%.*}" != "${2%.*}" ] && printf '%s\n' "${1%.*}" "${2%.*}" | sort -CV
}

# Let minikube make the control plane again.
# It saves KUBEADM_CONFIG before applying it. If it is interrupted, it believes that the change is
# done and waits for it forever; without the file it starts over.
# In a change kubelet starts with the old manifests, and a second later there are new ones with the
# same names. kubelet can then wait minutes for the volumes of etcd, until minikube gives up and
# makes another cluster, which is empty. Without the old manifests it has nothing to wait for.
prepare_change() {
    # A node that is a virtual machine, or a container that does not run, stays as it is.
    [ -n "$IN_NODE" ] && $IN_NODE rm -f "$KUBEADM_CONFIG" 2>/dev/null || return 0
    $IN_NODE test -d "${API_SERVER_MANIFEST%/*}" || return 0
    $IN_NODE systemctl stop kubelet
    $IN_NODE mkdir -p "$away"
    $IN_NODE find "${API_SERVER_MANIFEST%/*}" -name '*.yaml' -exec mv -t "$away" {} +
}

start() { # VERSION ARGUMENT...
    version=$1
    shift
    if [ -n "$there" ] && [ "$version $*" != "$(cat "$started" 2>/dev/null)" ]; then prepare_change; fi
    echo "$version $*" >"$under_way"
    rm -f "$started"
    # Where the node is the host, the unit has a /tmp of its own.
    [ -z "$NODE_IS_HOST" ] || unset TMPDIR
    minikube start --kubernetes-version="v$version" "$@"
    mv "$under_way" "$started"
    $IN_NODE rm -rf "$away"
}

# minikube finds a version between in the offline folder.
place() { # VERSION
    [ -n "$OFFLINE_DIR" ] || return 0
    "${0%/*}/offline-files.sh" apply "$OFFLINE_DIR/v$1" "$1"
    if [ -n "$NODE_IS_HOST" ]; then
        ctr -n k8s.io images import "$OFFLINE_DIR/v$1/images.tar" >/dev/null
    else
        "${0%/*}/offline-images.py" apply "$OFFLINE_DIR/v$1"
    fi
}

# A node that somebody added keeps its version, and is not minikube's to mend.
wait_for_node() { # VERSION
    $KUBECTL wait node --selector=node-role.kubernetes.io/control-plane --timeout=5m --for=jsonpath='{.status.nodeInfo.kubeletVersion}'="v$1"
    $KUBECTL wait node --selector=node-role.kubernetes.io/control-plane --timeout=5m --for=condition=Ready
}

there=$(version_there)
interrupted=$(cut -d ' ' -f 1 "$under_way" 2>/dev/null || true)
for each in $versions; do
    if [ "$each" = "${versions##* }" ]; then
        start "$each" "$@"
    elif [ -n "$there" ] && { [ "$each" = "$interrupted" ] || is_older "$there" "$each"; }; then
        echo "Kubernetes $there becomes $each on its way to ${versions##* }"
        place "$each"
        start "$each" "$@"
        wait_for_node "$each"
    fi
done
