"""The cluster's side of Airflow: a namespace, service accounts with least rights, a kubeconfig."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

import yaml
from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.cluster import builtin_dags
from tasks.layout import (
    API_SERVICE,
    BUILTIN_DAGS_CONFIG_MAP,
    CONTROL_PLANE,
    CONTROL_USER,
    DAGS_USER,
    KUBERNETES_OBJECTS,
    KUBERNETES_UNWANTED,
    PULL_SECRET,
    ROOT,
    TOKEN_MARK,
    TRIGGERER,
    TRIGGERERS_KUBECONFIG,
)
from tasks.lib import whole_file
from tasks.lib.manifests import Manifest, render
from tasks.lib.operations import ensure, ensure_sent, run_unless
from tasks.settings import HostSettings

MANIFEST = ROOT / "files/etc/airflow/kubernetes.yaml.j2"
# Tokens that never end, which earlier deploys had.
ENDLESS = tuple(f"secret/{account}-token" for account in (CONTROL_PLANE, TRIGGERER))
# Earlier deploys had these accounts, their tokens and rights in the namespaces of tasks.
RETIRED = tuple(
    each
    for account in (CONTROL_PLANE, TRIGGERER)
    for each in (f"rolebinding/{account}", f"serviceaccount/{account}", f"secret/{account}-token")
)
API_VERSIONS = {
    "ConfigMap": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "Secret": "v1",
    "ServiceAccount": "v1",
}


@deploy("Kubernetes")
def grant(settings: HostSettings) -> None:
    """The cluster has Airflow's objects, and the host a kubeconfig with their rights."""
    if settings.is_first:
        _apply(settings)
    for key, claim in settings.claims.items():
        # The dag-processor reads DAGs. The web page reads logs, also the triggerer's.
        users = [DAGS_USER] if key == "dags_claim" else [CONTROL_USER, DAGS_USER]
        ensure(
            name=f"Check the claim in {key} and its folder on the host",
            program="claim.sh",
            args=[key, claim.name, claim.host_path, *users],
            already="it has its volume, and the host sees its files",
        )
    for account, (path, group) in settings.kubernetes.accounts.items():
        ensure(
            name=f"Write the kubeconfig of {account}",
            program="kubeconfig.py",
            args=[account, path, group],
            already="it leads to the cluster, and its token is not past the half of its life",
        )
    run_unless(
        name="Finish the change of the cluster-token",
        test=f"! test -e {TOKEN_MARK}",
        commands=[f"rm {TOKEN_MARK}"],
        already="no change of the token was cut off",
    )
    if TRIGGERER not in settings.kubernetes.accounts:
        files.file(
            name="Remove the triggerer's kubeconfig", path=TRIGGERERS_KUBECONFIG, present=False
        )
        files.directory(
            name="Remove the triggerer's token", path=f"{TRIGGERERS_KUBECONFIG}.d", present=False
        )


def _apply(settings: HostSettings) -> None:
    wanted = [
        *objects(settings),
        *_way_to_all_hosts(settings),
        *builtin_dags.objects(settings),
        *settings.kubernetes.extra_manifests,
    ]
    _write_list("the list of the cluster's objects", wanted, KUBERNETES_OBJECTS)
    unwanted = list(_unwanted(settings))
    _write_list("the list of unwanted objects of the cluster", unwanted, KUBERNETES_UNWANTED)
    ensure(
        name="Apply Airflow's objects in the cluster",
        program="cluster-objects.py",
        already="the cluster has all of them and none that is unwanted",
    )


def objects(settings: HostSettings) -> list[Manifest]:
    """The namespaces, accounts, rights and claims of Airflow itself."""
    return [each for each in yaml.safe_load_all(render(MANIFEST, settings)) if each]


def _way_to_all_hosts(settings: HostSettings) -> list[Manifest]:
    """A name in the cluster for the Execution API of all hosts.

    The Service has no address of its own, so its name has the addresses of all hosts. A task's
    connection tries one after the other (Python's socket.create_connection): a host that is away
    costs it some seconds, and not one of its tries. kube-proxy would send half of the connections
    nowhere.
    """
    if not settings.has_api_service:
        return []
    port = {"name": "https", "protocol": "TCP", "port": settings.execution_api.port}
    place = {"name": API_SERVICE, "namespace": settings.kubernetes.control_namespace}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place,
            "spec": {"clusterIP": "None", "ports": [port]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                **place,
                "labels": {
                    "kubernetes.io/service-name": API_SERVICE,
                    "endpointslice.kubernetes.io/managed-by": "airflow-deploy",
                },
            },
            "addressType": "IPv4",
            "ports": [port],
            "endpoints": [{"addresses": [each]} for each in settings.addresses],
        },
    ]


@deploy("Kubernetes")
def retire(settings: HostSettings) -> None:
    """No account of the host is left in the tasks' namespaces, and no token without an end: the
    services have new ones now."""
    names = " ".join(RETIRED)
    ensure_sent(
        name="Delete Airflow's old accounts in the namespaces of tasks",
        program=ROOT / "tasks/lib/objects.sh",
        args=[
            settings.kubectl,
            *(f"-n {each} {names}" for each in settings.kubernetes.namespaces),
            f"-n {settings.kubernetes.control_namespace} {' '.join(ENDLESS)}",
        ],
        already="there are none",
    )


def _write_list(what: str, objects: Sequence[Mapping[str, Any]], path: str) -> None:
    """The host has objects in a file that kubectl can read, too."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2, default=str)
    whole_file.put(
        name=f"Write {what}",
        src=StringIO(text + "\n"),
        dest=path,
        mode="600",
    )


def _unwanted(settings: HostSettings) -> Iterator[Manifest]:
    """Objects that an earlier run may have made and that should go: rights above all."""
    names = list(_unwanted_names(settings))
    places = [
        *((each, *name) for each in settings.kubernetes.namespaces for name in names),
        *((settings.kubernetes.control_namespace, *name) for name in _unwanted_accounts(settings)),
    ]
    for namespace, kind, name in places:
        yield {
            "apiVersion": API_VERSIONS[kind],
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
        }


def _unwanted_accounts(settings: HostSettings) -> Iterator[tuple[str, str]]:
    if not settings.kubernetes.pod_operator:
        yield "ServiceAccount", TRIGGERER


def _unwanted_names(settings: HostSettings) -> Iterator[tuple[str, str]]:
    if not settings.kubernetes.pod_operator:
        for account in ("airflow-pod-operator", TRIGGERER):
            for kind in ("Role", "RoleBinding", "ServiceAccount"):
                yield kind, account
        yield "Secret", f"{TRIGGERER}-token"
        yield "RoleBinding", f"{TRIGGERER}-account"
    if not builtin_dags.bundled(settings):
        yield "ConfigMap", BUILTIN_DAGS_CONFIG_MAP
    if not settings.kubernetes.network_policy:
        yield "NetworkPolicy", "airflow-worker"
    if not settings.worker.pulls_with_login:
        yield "Secret", PULL_SECRET
