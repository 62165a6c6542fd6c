"""The cluster's side of Airflow: a namespace, service accounts with least rights, a kubeconfig."""

from __future__ import annotations

import shlex
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from pyinfra.api import deploy

from tasks.kinds import Claim
from tasks.operations import settled
from tasks.registry import PULL_SECRET
from tasks.settings import ROOT, Settings

MANIFEST = ROOT / "files/etc/airflow/kubernetes.yaml.j2"
KUBECONFIG = "/etc/airflow/kubeconfig"
TOKEN_SECRET = "airflow-control-plane-token"
POD_OPERATOR = [
    f"{kind}/airflow-pod-operator" for kind in ("role", "rolebinding", "serviceaccount")
]


def render(template: Path, settings: Settings) -> str:
    """A template's text for these settings."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template.read_text()).render(settings=settings)


@deploy("Kubernetes")
def connect(settings: Settings) -> None:
    """The cluster has Airflow's objects, and the host a kubeconfig with just their rights."""
    manifest = f"printf %s {shlex.quote(render(MANIFEST, settings))}"
    in_namespace = f"{settings.kubectl} -n {settings.kubernetes_namespace}"
    # What is no longer asked for is taken away.
    unwanted = " ".join(
        [
            *([] if settings.kubernetes_pod_operator else POD_OPERATOR),
            *([] if settings.pulls_with_login else [f"secret/{PULL_SECRET}"]),
        ]
    )
    none_unwanted = (
        f'test -z "$({in_namespace} get {unwanted} --ignore-not-found -o name)"'
        if unwanted
        else "true"
    )
    settled(
        name="Apply Airflow's objects in the cluster",
        test=f"{manifest} | {settings.kubectl} diff -f - && {none_unwanted}",
        commands=[
            f"{manifest} | {settings.kubectl} apply -f -",
            *([f"{in_namespace} delete --ignore-not-found {unwanted}"] if unwanted else []),
        ],
        because="the cluster has them as they are to be",
    )
    for claim in settings.claims:
        _find(claim, f"{in_namespace} get persistentvolumeclaim {claim.name}")
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


def _find(claim: Claim, get: str) -> None:
    """The claim is in the cluster, and its files are where the host looks for them."""
    settled(
        name=f"Find the claim {claim.name}",
        test=f"{get} && test -d {claim.host_path}",
        commands=[
            f"{get} >/dev/null 2>&1 || {{ echo 'the claim {claim.name} is not in the namespace:"
            " make it, or give its size and the deploy makes it' >&2; exit 1; }",
            # A cluster that makes the folder does so a moment later.
            f"for i in $(seq 60); do test -d {claim.host_path} && exit 0; sleep 0.5; done;"
            f" echo 'the host has no folder {claim.host_path}, where the files of the claim"
            f" {claim.name} are to be (host_path): mount them there' >&2; exit 1",
        ],
        because="it is there, and the host sees its files",
    )


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
