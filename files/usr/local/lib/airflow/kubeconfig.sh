#!/bin/sh
# kubeconfig.sh check|apply ACCOUNT PATH GROUP: the file PATH, which only root and GROUP can read,
# names the cluster and holds the token that the service account ACCOUNT has now.
# kubeconfig.sh replace [ACCOUNT...]: these accounts, or all of the host's, have new tokens.
# Written by the deploy of Airflow, which calls it, as airflow-rotate does.
set -eu
lib=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$lib/lib.sh"
# Fields of a kubeconfig that say how to reach a cluster and know that it is the right one. Others
# are left out: minikube's notes change at each start.
field() {
    echo "{{with index . \"$1\"}}, $1: $2{{end}}"
}
cluster="{{with (index .clusters 0).cluster}}server: \"{{.server}}\"$(
    field certificate-authority-data '"{{.}}"'
    field tls-server-name '"{{.}}"'
    field proxy-url '"{{.}}"'
    field insecure-skip-tls-verify '{{.}}'
)"
cluster="$(echo "$cluster" | tr -d '\n'){{end}}"

encoded_token() {
    $KUBECTL -n "$CONTROL_NAMESPACE" get secret "$1-token" -o 'jsonpath={.data.token}'
}

# The token is in no argument, and never leaves the host.
print() {
    at=$(kube config view --minify --flatten --raw -o "go-template=$cluster") || exit
    # The node is this host: its own address may change (DHCP), and a proxy may be for others.
    # minikube's certificate of the API is for this address too.
    [ -z "$NODE_IS_HOST" ] ||
        at=$(echo "$at" | sed -E 's|^server: "https://[^"]*:([0-9]+)|server: "https://127.0.0.1:\1|')
    token=$(encoded_token "$1" | base64 -d)
    [ -n "$token" ] || fail "Kubernetes gave $1 no token"
    cat <<END
apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster: {$at}
users:
- name: airflow
  user: {token: "$token"}
contexts:
- name: airflow
  context: {cluster: cluster, user: airflow, namespace: "$NAMESPACE"}
current-context: airflow
END
}

case "${1-} $#" in
"check 4")
    config=$(print "$2")
    printf '%s\n' "$config" | cmp -s - "$3" || fail "$3 does not have the cluster or the token of $2"
    [ "$(stat -c %U:%G:%a "$3")" = "root:$4:640" ] || fail "$3 is not root's and $4's alone"
    ;;
"apply 4")
    umask 077
    # Kubernetes makes the token a moment after its secret.
    for _ in $(seq 50); do
        encoded_token "$2" | grep -q . && break
        sleep 0.2
    done
    print "$2" >"$3.new"
    chown "root:$4" "$3.new"
    chmod 640 "$3.new"
    mv "$3.new" "$3"
    ;;
"replace "*) "$lib/cluster-objects.py" "$@" ;;
*) usage ;;
esac
