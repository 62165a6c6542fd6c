"""The cluster's side of Airflow: a namespace, service accounts with least rights, a kubeconfig."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import yaml
from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.layout import (
    BUILTIN_DAGS_CONFIG_MAP,
    CONTROL_USER,
    DAGS_USER,
    KUBECONFIG,
    PULL_SECRET,
    ROOT,
    TRIGGERERS_KUBECONFIG,
)
from tasks.lib.kubectl import Manifest, render
from tasks.lib.operations import settled
from tasks.settings import HostSettings
from tasks.settings.types import Claim

MANIFEST = ROOT / "files/etc/airflow/kubernetes.yaml.j2"
CONTROL_PLANE, TRIGGERER = "airflow-control-plane", "airflow-triggerer"


@deploy("Kubernetes")
def grant(settings: HostSettings, more: Sequence[Manifest]) -> None:
    """The cluster has Airflow's objects and `more`, and the host a kubeconfig with their rights."""
    in_namespace = f"{settings.kubectl} -n {settings.kubernetes.namespace}"
    manifests = _manifests(settings, more)
    unwanted = [
        f"-n {namespace} --ignore-not-found {' '.join(names)}"
        for namespace in settings.kubernetes.namespaces
        if (names := list(_unwanted(settings, more)))
    ]
    settled(
        name="Apply Airflow's objects in the cluster",
        test=" && ".join(
            [
                *(f"{manifest} {kubectl} diff -f -" for manifest, kubectl in manifests),
                *(f'test -z "$({settings.kubectl} get -o name {each})"' for each in unwanted),
            ]
        ),
        commands=[
            *(f"{manifest} {kubectl} apply -f -" for manifest, kubectl in manifests),
            *(f"{settings.kubectl} delete {each}" for each in unwanted),
        ],
        because="the cluster has them as they are to be",
    )
    for key, claim in settings.claims.items():
        _find(key, claim, f"{in_namespace} get")
    for account, (path, group) in accounts(settings).items():
        settled(
            name=f"Write the kubeconfig of {account}",
            test=f"{{ {_kubeconfig(settings, account)}\n}} | cmp -s - {path} &&"
            f" stat -c %U:%G:%a {path} | grep -qx root:{group}:640",
            commands=[writing_kubeconfig(settings, account)],
            because="it names the cluster and holds the service account's token",
        )
    if TRIGGERER not in accounts(settings):
        files.file(
            name="Remove the triggerer's kubeconfig", path=TRIGGERERS_KUBECONFIG, present=False
        )


def accounts(settings: HostSettings) -> dict[str, tuple[str, str]]:
    """The accounts of what runs on the host, each with its kubeconfig and who may read that."""
    found = {CONTROL_PLANE: (KUBECONFIG, CONTROL_USER)}
    if settings.kubernetes.pod_operator:
        found[TRIGGERER] = (TRIGGERERS_KUBECONFIG, DAGS_USER)
    return found


def writing_kubeconfig(settings: HostSettings, account: str) -> str:
    """Shell commands that write an account's kubeconfig, with the token that it has now."""
    path, group = accounts(settings)[account]
    token = f"{settings.kubectl} -n {settings.kubernetes.namespace} get secret {account}-token"
    return (
        f"umask 077; for i in $(seq 50); do"  # Kubernetes fills in the token a moment later
        f" {token} -o jsonpath={{.data.token}} | grep -q . && break; sleep 0.2; done;"
        f" {{ {_kubeconfig(settings, account)}\n}} > {path}.new"
        f" && chown root:{group} {path}.new && chmod 640 {path}.new && mv {path}.new {path}"
    )


def replacing_accounts(settings: HostSettings) -> str:
    """Shell commands that give the accounts other tokens.

    The accounts are made anew: a token of the same one would be the same again. What they may do
    is bound to their names, and stays.
    """
    names = {*accounts(settings), *(f"{account}-token" for account in accounts(settings))}
    objects = [
        each
        for each in yaml.safe_load_all(render(MANIFEST, settings))
        if each["kind"] in ("ServiceAccount", "Secret") and each["metadata"]["name"] in names
    ]
    manifest = f"printf %s {shlex.quote(yaml.safe_dump_all(objects))} | {settings.kubectl}"
    return f"{manifest} delete --ignore-not-found -f - && {manifest} apply -f -"


def _find(key: str, claim: Claim, get: str) -> None:
    """The claim has its volume, and Airflow can read its files on the host, before it is used."""
    phase = f"{get} pvc {claim.name} --ignore-not-found -o jsonpath={{.status.phase}}"
    event = (
        f"{get} events --field-selector involvedObject.name={claim.name}"
        " -o jsonpath='{.items[-1:].message}'"
    )
    folder = claim.host_path
    # The dag-processor reads DAGs; of logs the web page reads what the triggerer writes, too.
    users = (DAGS_USER,) if key == "dags_claim" else (CONTROL_USER, DAGS_USER)
    readable = " && ".join(
        f"runuser -u {user} -- sh -c 'test -r {folder} && test -x {folder}'" for user in users
    )
    settled(
        name=f"Find the claim of {key} and its folder on the host",
        test=f'test "$({phase})" = Bound && {readable}',
        commands=[
            f"""
for second in $(seq 60); do  # a cluster that makes volume and folder does so a moment later
    phase=$({phase}) || exit 1
    if test -z "$phase" || test "$phase" = Bound -a -d {folder}; then break; fi
    sleep 1
done
if test -z "$phase"; then
    why="there is no claim {claim.name} in the namespace: make it, or give its size and the deploy"
    why="$why makes it"
elif test "$phase" != Bound; then
    why="the claim {claim.name} has no volume after a minute ($phase: $({event})): make one, or"
    why="$why choose a storage class that has one at once"
elif ! test -d {folder}; then
    why="the host has no folder {folder}, where the files of the claim {claim.name} are to be"
    why="$why (host_path): mount them there"
elif ! {{ {readable}; }}; then
    why="{folder} is not readable for the host's users {" and ".join(users)}: give them the right"
else
    exit 0
fi
echo "{key}: $why" >&2
exit 1"""
        ],
        because="it has its volume, and the host sees its files",
    )


def _manifests(settings: HostSettings, more: Sequence[Manifest]) -> list[tuple[str, str]]:
    """What is to be in the cluster: a command that prints it into a pipe, and its kubectl."""
    # Only where no object names a namespace may kubectl be given one, as that of all of them.
    elsewhere = [
        each for each in settings.kubernetes.extra_manifests if "namespace" in each["metadata"]
    ]
    here = [each for each in settings.kubernetes.extra_manifests if each not in elsewhere]
    texts = {
        settings.kubectl: [
            render(MANIFEST, settings),
            *map(yaml.safe_dump, [*more, *elsewhere]),
        ],
        f"{settings.kubectl} -n {settings.kubernetes.namespace}": [*map(yaml.safe_dump, here)],
    }
    joined = {kubectl: "---\n".join(text) for kubectl, text in texts.items() if text}
    return [(f"printf %s {shlex.quote(text)} |", kubectl) for kubectl, text in joined.items()]


def _unwanted(settings: HostSettings, more: Sequence[Manifest]) -> Iterator[str]:
    """What an earlier run may have made and is to be no longer: rights above all."""
    if not settings.kubernetes.pod_operator:
        yield from (
            f"{kind}/{account}"
            for account in ("airflow-pod-operator", TRIGGERER)
            for kind in ("role", "rolebinding", "serviceaccount")
        )
        yield f"secret/{TRIGGERER}-token"
    if all(each["metadata"]["name"] != BUILTIN_DAGS_CONFIG_MAP for each in more):
        yield f"configmap/{BUILTIN_DAGS_CONFIG_MAP}"
    if not settings.kubernetes.network_policy:
        yield "networkpolicy/airflow-worker"
    if not settings.worker.pulls_with_login:
        yield f"secret/{PULL_SECRET}"


# How to reach a cluster and know it is the right one, as Go's templates take it from a kubeconfig.
# Left out: minikube's notes, which change at each start.
CLUSTER = (
    '{{with (index .clusters 0).cluster}}server: "{{.server}}"'
    + "".join(
        f'{{{{with index . "{key}"}}}}, {key}: {value}{{{{end}}}}'
        for key, value in {
            "certificate-authority-data": '"{{.}}"',
            "tls-server-name": '"{{.}}"',
            "proxy-url": '"{{.}}"',
            "insecure-skip-tls-verify": "{{.}}",
        }.items()
    )
    + "{{end}}"
)


def _kubeconfig(settings: HostSettings, account: str) -> str:
    """Shell commands that print the kubeconfig of a service account.

    They run on the host only, so that the token never leaves it; it is in no argument either.
    """
    namespace = settings.kubernetes.namespace
    view = f"{settings.kubectl} config view --minify --flatten --raw -o go-template="
    secret = f"{settings.kubectl} -n {namespace} get secret {account}-token -o jsonpath="
    return f"""
cluster=$({view}{shlex.quote(CLUSTER)})
token=$({secret}'{{.data.token}}' | base64 -d)
test -n "$token" || {{ echo "Kubernetes gave {account} no token" >&2; exit 1; }}
cat <<END
apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster: {{$cluster}}
users:
- name: airflow
  user: {{token: "$token"}}
contexts:
- name: airflow
  context: {{cluster: cluster, user: airflow, namespace: {namespace}}}
current-context: airflow
END"""
