#!/bin/sh
# certificates.sh check|apply: Kubernetes' own certificates in its node are valid for 30 days or more,
# and the database tells Prometheus when they end, and nginx's. kubeadm makes them for a year, and
# minikube renews them only when it starts on their last day. airflow-certificate.timer calls this each
# day.
# certificates.sh check|apply kubernetes: the same without a database, as airflow-cluster-certificates.timer
# calls it where the cluster has a host of its own. It heals a cluster whose certificates have ended.
# Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"

# Print when the first of these certificates ends, as Unix time, and its file; nothing if there is none.
first_end() {
    "$here/certificate-ends.py" "$@"
}

# Print «name time» of each group of certificates.
ends() {
    # shellcheck disable=SC2086 # patterns and lists
    set -- "kubernetes $kubernetes" "web $(first_end $WEB_CERTIFICATES)"
    printf '%s\n' "$@" | cut -d' ' -f1,2 | grep ' [0-9]'
}

sql() {
    "$here/owner.sh" psql -XAtq -v ON_ERROR_STOP=1 -F ' ' -c "$1"
}

recorded() {
    sql "select name, extract(epoch from not_after)::bigint from deploy.certificate order by name" 2>/dev/null
}

# Prometheus' exporter may have come after the table.
ungranted() {
    sql "select rolname from pg_roles where rolname = '$METRICS_ROLE' and not
        (has_schema_privilege(oid, 'deploy', 'usage') and has_table_privilege(oid, 'deploy.certificate', 'select'))"
}

look() {
    kubernetes=$([ -z "$CLUSTER_CERTIFICATES" ] || first_of_all | sort -n | head -n 1)
}

first_of_all() {
    first_end_in_node "$CLUSTER_CERTIFICATES"
    # shellcheck disable=SC2086 # a pattern
    first_end $MINIKUBE_CERTIFICATES
}

first_end_in_node() { # of the files $1, which may be patterns
    $IN_NODE sh -c "tar -chPf - $1 2>/dev/null" | first_end -
}

soon() { # whether the end $1, as first_end prints it, is within 30 days
    [ -n "$1" ] && [ "${1%% *}" -lt $(($(date +%s) + 30 * 86400)) ]
}

# With a file of another user, kubeadm would act as root for that user.
has_config() {
    is_own "${KUBEADM_CONFIG%/*}" directory && is_own "$KUBEADM_CONFIG" "regular file"
}

is_own() { # whether the path $1 of the node itself is of the kind $2, and belongs to the user who runs this
    [ "$($IN_NODE stat -c "%u %F" "$1" 2>/dev/null)" = "$($IN_NODE id -u) $2" ]
}

renew() {
    # minikube's unit takes the folder from others, and minikube writes the file again.
    has_config || systemctl reload-or-restart minikube ||
        fail "$KUBEADM_CONFIG is not there or not root's, and minikube does not write it again:" \
            "journalctl -u minikube says why"
    has_config || fail "minikube has not written $KUBEADM_CONFIG again, so kubeadm can not renew certificates"
    : >"$unread"
    told=$($IN_NODE "$KUBEADM" certs renew all --config "$KUBEADM_CONFIG" 2>&1) ||
        fail "kubeadm does not renew Kubernetes' certificates: $told"
    ! soon "$(first_end_in_node "$KUBELET_KUBECONFIG $KUBELET_CERTIFICATE")" || renew_kubelets
    # shellcheck disable=SC2086
    ! soon "$(first_end $MINIKUBE_CERTIFICATES)" || renew_minikubes
}

# kubelet renews its own long before, while it runs. It does not start with one that has ended while
# the host was off: https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/troubleshooting-kubeadm/
renew_kubelets() {
    $IN_NODE rm -f "$KUBELET_KUBECONFIG" "$KUBELET_CERTIFICATE"
    told=$($IN_NODE "$KUBEADM" init phase kubeconfig kubelet --config "$KUBEADM_CONFIG" 2>&1) ||
        fail "kubeadm does not renew kubelet's certificate: $told"
    $IN_NODE systemctl restart kubelet
}

# minikube makes missing certificates when it starts: that of root's kubectl, and the API server's.
renew_minikubes() {
    # shellcheck disable=SC2086
    rm -f $MINIKUBE_CERTIFICATES
    systemctl reload-or-restart minikube ||
        fail "minikube does not make its certificates again: journalctl -u minikube says why"
}

# The components read their certificates when they start; kubelet starts them again. Pods run on.
restart() {
    # crictl's own timeout of 2 s is too short for a busy host.
    # shellcheck disable=SC2086 # a command with its arguments
    $IN_NODE crictl ps -q --name '^(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)$' |
        xargs -r $IN_NODE crictl --timeout=1m stop >/dev/null ||
        fail "Kubernetes' components do not start again with their new certificates: see above why"
    for _ in $(seq 60); do
        $KUBECTL get --raw=/readyz --request-timeout=5s >/dev/null 2>&1 && break
        sleep 2
    done
    rm "$unread"
    look
    ! soon "$kubernetes" || fail "kubeadm has renewed Kubernetes' certificates, but not ${kubernetes#* }"
    echo "Kubernetes' certificates were renewed; the first ends on $(date -d "@${kubernetes%% *}" +%F)"
}

unread=$STATE/certificates-unread # from a renewal until the components have started again
# Several hosts would overwrite each other's certificates in their one database, and have neither an
# exporter that reads it nor a cluster of their own.
[ -z "${SEVERAL_HOSTS-}" ] || exit 0
case "${1-} ${2-} $#" in
"check  1" | "check kubernetes 2")
    look
    [ ! -e "$unread" ] || fail "Kubernetes' components have not started again since their certificates were renewed"
    ! soon "$kubernetes" || fail "${kubernetes#* } ends on $(date -d "@${kubernetes%% *}" +%F)"
    [ -z "${2-}" ] || exit 0
    [ "$(recorded)" = "$(ends)" ] || fail "the database does not have the ends of all certificates"
    [ -z "$(ungranted)" ] || fail "Prometheus' exporter can not read the ends of certificates"
    ;;
"apply  1" | "apply kubernetes 2")
    # A deploy that starts the timer comes here at the same time as the timer's service.
    install -d -m 700 "${DEPLOY_LOCK%/*}"
    exec 8>"${DEPLOY_LOCK%/*}/certificates.lock"
    flock -w 300 8 || fail "another certificates.sh has been at work for five minutes"
    look
    ! soon "$kubernetes" || renew
    [ ! -e "$unread" ] || restart
    [ -z "${2-}" ] || exit 0
    role=$(sql "select rolname from pg_roles where rolname = '$METRICS_ROLE'")
    values=$(ends | sed "s/\\(.*\\) \\(.*\\)/('\\1', to_timestamp(\\2))/" | paste -sd,)
    sql "set client_min_messages to warning;
        create schema if not exists deploy;
        create table if not exists deploy.certificate (name text primary key, not_after timestamptz not null);
        ${role:+grant usage on schema deploy to $role; grant select on deploy.certificate to $role;}
        begin; delete from deploy.certificate;
        ${values:+insert into deploy.certificate values $values;} commit"
    ;;
*) usage ;;
esac
