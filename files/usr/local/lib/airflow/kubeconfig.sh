#!/bin/sh
# kubeconfig.sh replace: the service accounts get new tokens.
# kubeconfig.sh apply ACCOUNT PATH GROUP: the file at PATH has the account's token.
# Written by the deploy of Airflow.
set -eu
umask 077
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"

kubectl() {
    # shellcheck disable=SC2086 # a command
    $KUBECTL -n "$NAMESPACE" "$@"
}

# The account is replaced: a token of the same one would be the same again. Its rights are bound to
# its name, and stay.
replace() {
    kubectl delete --ignore-not-found "serviceaccount/$1" "secret/$1-token"
    kubectl apply -f - <<END
apiVersion: v1
kind: ServiceAccount
metadata: {name: $1, namespace: $NAMESPACE}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Secret
metadata:
  name: $1-token
  namespace: $NAMESPACE
  annotations: {kubernetes.io/service-account.name: $1}
type: kubernetes.io/service-account-token
END
}

cluster() {
    parts='{{with (index .clusters 0).cluster}}server: "{{.server}}"'
    for key in certificate-authority-data tls-server-name proxy-url; do
        parts="$parts{{with index . \"$key\"}}, $key: \"{{.}}\"{{end}}"
    done
    key=insecure-skip-tls-verify
    parts="$parts{{with index . \"$key\"}}, $key: {{.}}{{end}}{{end}}"
    kubectl config view --minify --flatten --raw -o go-template="$parts"
}

token() {
    kubectl get secret "$1-token" -o 'jsonpath={.data.token}'
}

case ${1-} in
replace)
    replace airflow-control-plane
    [ ! -e "$TRIGGERER_KUBECONFIG" ] || replace airflow-triggerer
    ;;
apply)
    tries=50 # Kubernetes fills in the token a moment later
    until token "$2" | grep -q . || [ $tries = 0 ]; do
        tries=$((tries - 1))
        sleep 0.2
    done
    token=$(token "$2" | base64 -d)
    [ -n "$token" ] || fail "Kubernetes gave $2 no token"
    cat >"$3.new" <<END
apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster: {$(cluster)}
users:
- name: airflow
  user: {token: "$token"}
contexts:
- name: airflow
  context: {cluster: cluster, user: airflow, namespace: $NAMESPACE}
current-context: airflow
END
    chown "root:$4" "$3.new"
    chmod 640 "$3.new"
    mv "$3.new" "$3"
    ;;
*)
    echo "usage: kubeconfig.sh replace | apply ACCOUNT PATH GROUP" >&2
    exit 2
    ;;
esac
