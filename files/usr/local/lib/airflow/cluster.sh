#!/bin/sh
# cluster.sh check|apply begin: minikube is started, in the background, and starts at boot.
# cluster.sh check|apply run: it runs as its unit says, in the version KUBERNETES_VERSION, its API
# answers, and its node is ready. Pods go on running meanwhile. Written by the deploy of Airflow.
set -u
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
started=$STATE/minikube     # the checksum of the unit that minikube last started or reloaded with
begun=$STATE/minikube.begun # the one that it is starting with; left when that was interrupted

# minikube saves KUBEADM_CONFIG before applying it. If it is interrupted, it believes that the change
# is done and waits for it forever; without the file it starts over.
begin() {
    [ ! -e "$begun" ] || $IN_NODE rm -f "$KUBEADM_CONFIG" 2>/dev/null # no node, no file
    sha256sum "$MINIKUBE_UNIT" >"$begun"
}

# The cluster itself learns only after most of a minute that kubelet ended.
answers() {
    [ -z "$IN_NODE" ] || $IN_NODE systemctl is-active --quiet kubelet || return
    $KUBECTL version --request-timeout=10s 2>/dev/null | grep -qxF "Server Version: v$KUBERNETES_VERSION" && is_ready
}

# The version needs no etcd, which the API server may be unable to reach. A busy API server may
# answer late. A node that is cordoned is ready; one that somebody added is not minikube's to mend.
is_ready() {
    for _ in $(seq 5); do
        $KUBECTL get --raw=/readyz --request-timeout=10s && $KUBECTL wait node --timeout=10s \
            --selector=node-role.kubernetes.io/control-plane --for=condition=Ready && return
        sleep 2
    done >/dev/null 2>&1
    return 1
}

# kube-proxy reads its configuration when it starts; until then its figures are open to the network.
# It may just be starting again, with its earlier configuration.
# A node that is a container has ports of its own.
proxy_is_open() {
    for _ in $(seq 30); do
        found=$($IN_NODE ss -Hltn "sport = :10249")
        [ -z "$found" ] || break
        sleep 1
    done
    echo "$found" | grep -v "127.0.0.1:10249" | grep -q .
}

end() {
    answers || return
    # Connections continue without kube-proxy.
    [ -z "$IN_NODE" ] || ! proxy_is_open || $KUBECTL -n kube-system rollout restart daemonset kube-proxy || return
    mv "$begun" "$started"
}

apply_run() {
    systemctl daemon-reload
    # A start that is under way ends first.
    systemctl start minikube && sha256sum --check --status "$begun" 2>/dev/null && end && return
    # A cluster whose certificates have ended never answers minikube.
    [ -z "$CLUSTER_CERTIFICATES" ] || "$here/certificates.py" apply kubernetes
    # Then a reload changes the version, or starts a cluster that was stopped without systemd.
    begin && systemctl reload-or-restart minikube && end && return
    last_words minikube
    fail "minikube does not run Kubernetes v$KUBERNETES_VERSION; its last messages are above, the rest is in journalctl -u minikube -u kubelet"
}

case "$*" in
"check begin")
    systemctl is-enabled --quiet minikube 2>/dev/null || fail "minikube does not start at boot"
    systemctl show -P ActiveState minikube | grep -q ^activ || fail "minikube is not started"
    ;;
"apply begin")
    systemctl daemon-reload && systemctl enable --quiet minikube && begin && systemctl start --no-block minikube
    ;;
"check run")
    systemctl is-active --quiet minikube || fail "minikube does not run"
    [ ! -e "$begun" ] || fail "a start of minikube was interrupted"
    sha256sum --check --status "$started" 2>/dev/null ||
        fail "minikube was started with another unit than $MINIKUBE_UNIT"
    answers || fail "no Kubernetes v$KUBERNETES_VERSION answers, or its node is not ready"
    ;;
"apply run") apply_run ;;
*) usage ;;
esac
