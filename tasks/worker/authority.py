"""The pods' trust in the certificate that the host makes."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.layout import AUTHORITY, AUTHORITY_CONFIG_MAP
from tasks.lib.kubectl import Volume
from tasks.lib.operations import settled
from tasks.settings import HostSettings

IN_POD = "/opt/airflow/tls"


@deploy("Kubernetes")
def share(settings: HostSettings) -> None:
    """The namespaces of task pods have the authority."""
    name = AUTHORITY_CONFIG_MAP
    there = f"get configmap {name} -o jsonpath='{{.data.ca\\.pem}}' | cmp -s - {AUTHORITY}"
    create = (
        f"create configmap {AUTHORITY_CONFIG_MAP} --from-file={AUTHORITY} --dry-run=client -o json"
    )
    kubectls = [
        f"{settings.kubectl} -n {namespace}" for namespace in settings.kubernetes.namespaces
    ]
    settled(
        name="Give the cluster the certificate's authority",
        test=" && ".join(f"{kubectl} {there}" for kubectl in kubectls),
        commands=[f"{kubectl} {create} | {kubectl} apply -f -" for kubectl in kubectls],
        because="the cluster has it",
    )


def volume() -> Volume:
    """What a pod mounts to trust the certificate."""
    return Volume(
        {"name": "authority", "configMap": {"name": AUTHORITY_CONFIG_MAP}},
        {"name": "authority", "mountPath": IN_POD, "readOnly": True},
    )


def environment() -> dict[str, str]:
    """What tells a pod's tasks about it; they trust the public authorities as well."""
    return {"AIRFLOW__API__SSL_CERT": f"{IN_POD}/ca.pem"}
