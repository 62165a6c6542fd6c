"""The cluster's side of Airflow: a namespace, service accounts with least rights, a kubeconfig."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined
from pyinfra.api import deploy

from tasks import dags
from tasks.kinds import Claim
from tasks.operations import settled
from tasks.registry import PULL_SECRET
from tasks.settings import ROOT, Settings

MANIFEST = ROOT / "files/etc/airflow/kubernetes.yaml.j2"
KUBECONFIG = "/etc/airflow/kubeconfig"
TOKEN_SECRET = "airflow-control-plane-token"


def render(template: Path, settings: Settings) -> str:
    """A template's text for these settings."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template.read_text()).render(settings=settings)


@deploy("Kubernetes")
def connect(settings: Settings) -> None:
    """The cluster has Airflow's objects, and the host a kubeconfig with just their rights."""
    in_namespace = f"{settings.kubectl} -n {settings.kubernetes_namespace}"
    manifests = _manifests(settings)
    unwanted = [
        f"-n {namespace} --ignore-not-found {' '.join(names)}"
        for namespace in settings.namespaces
        if (names := list(_unwanted(settings)))
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
    content = _kubeconfig(settings)
    settled(
        name="Write Airflow's kubeconfig",
        test=f"{{ {content}\n}} | cmp -s - {KUBECONFIG} &&"
        f" stat -c %U:%G:%a {KUBECONFIG} | grep -qx root:airflow:640",
        commands=[
            f"umask 077; for i in $(seq 50); do"  # Kubernetes fills in the token a moment later
            f" {in_namespace} get secret {TOKEN_SECRET} -o jsonpath={{.data.token}}"
            f" | grep -q . && break; sleep 0.2; done; {{ {content}\n}} > {KUBECONFIG}.new"
            f" && chown root:airflow {KUBECONFIG}.new && chmod 640 {KUBECONFIG}.new"
            f" && mv {KUBECONFIG}.new {KUBECONFIG}",
        ],
        because="it names the cluster and holds the service account's token",
    )


def _find(key: str, claim: Claim, get: str) -> None:
    """The claim has its volume, and Airflow can read its files on the host, before it is used."""
    phase = f"{get} pvc {claim.name} --ignore-not-found -o jsonpath={{.status.phase}}"
    event = (
        f"{get} events --field-selector involvedObject.name={claim.name}"
        " -o jsonpath='{.items[-1:].message}'"
    )
    folder = claim.host_path
    readable = f"runuser -u airflow -- sh -c 'test -r {folder} && test -x {folder}'"
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
elif ! {readable}; then
    why="the user airflow may not read {folder} on the host: give it the right to"
else
    exit 0
fi
echo "{key}: $why" >&2
exit 1"""
        ],
        because="it has its volume, and the host sees its files",
    )


def _manifests(settings: Settings) -> list[tuple[str, str]]:
    """What is to be in the cluster: a command that prints it into a pipe, and its kubectl."""
    # Only where no object names a namespace may kubectl be given one, as that of all of them.
    elsewhere = [each for each in settings.kubernetes_objects if "namespace" in each["metadata"]]
    here = [each for each in settings.kubernetes_objects if each not in elsewhere]
    texts = {
        settings.kubectl: [
            render(MANIFEST, settings),
            *map(yaml.safe_dump, [*dags.objects(settings), *elsewhere]),
        ],
        f"{settings.kubectl} -n {settings.kubernetes_namespace}": [*map(yaml.safe_dump, here)],
    }
    joined = {kubectl: "---\n".join(text) for kubectl, text in texts.items() if text}
    return [(f"printf %s {shlex.quote(text)} |", kubectl) for kubectl, text in joined.items()]


def _unwanted(settings: Settings) -> Iterator[str]:
    """What an earlier run may have made and is to be no longer: rights above all."""
    if not settings.kubernetes_pod_operator:
        yield from (
            f"{kind}/airflow-pod-operator" for kind in ("role", "rolebinding", "serviceaccount")
        )
    if not dags.objects(settings):
        yield f"configmap/{dags.CONFIG_MAP}"
    if not settings.kubernetes_network_policy:
        yield "networkpolicy/airflow-worker"
    if not settings.pulls_with_login:
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


def _kubeconfig(settings: Settings) -> str:
    """Shell commands that print the kubeconfig of Airflow's service account.

    They run on the host only, so that the token never leaves it; it is in no argument either.
    """
    namespace = settings.kubernetes_namespace
    view = f"{settings.kubectl} config view --minify --flatten --raw -o go-template="
    secret = f"{settings.kubectl} -n {namespace} get secret {TOKEN_SECRET} -o jsonpath="
    return f"""
cluster=$({view}{shlex.quote(CLUSTER)})
token=$({secret}'{{.data.token}}' | base64 -d)
test -n "$token" || {{ echo "Kubernetes gave {TOKEN_SECRET} no token" >&2; exit 1; }}
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
