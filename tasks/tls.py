"""The proxy's certificate, and the pods' trust in it.

It is the inventory's, or one that the host makes, of an authority (CA) of its own.
"""

from __future__ import annotations

import shlex
from io import StringIO
from urllib.parse import urlsplit

from pydantic import SecretStr
from pyinfra.operations import files

from tasks.kinds import Proxy
from tasks.operations import secret_file, settled
from tasks.pods import Volume
from tasks.settings import Settings

FOLDER = "/etc/airflow/tls"
# The certificate, those between it and its authority, and its key: one file changes in one step.
SERVER = f"{FOLDER}/server.pem"
AUTHORITY = f"{FOLDER}/ca.pem"  # whom pods are to trust
AUTHORITYS_KEY = f"{FOLDER}/ca-key.pem"
PROGRAM = "/usr/local/lib/airflow/certificate"

CONFIG_MAP = "airflow-authority"
IN_POD = "/opt/airflow/tls"


def provide(settings: Settings, proxy: Proxy) -> None:
    """The host has the certificate with its key, and the authority that pods are to trust."""
    files.directory(name=f"Create {FOLDER}", path=FOLDER, user="root", group="root", mode="755")
    files.put(
        name="Write what makes the certificate", src=f"files{PROGRAM}", dest=PROGRAM, mode="755"
    )
    if proxy.certificate and proxy.key:
        _write(proxy, proxy.certificate, proxy.key)
        return
    settled(
        name="Make the certificate",
        test=making("check", settings),
        commands=[making("make", settings)],
        because="it is of the host's own authority, for all of its names",
    )


def is_made(settings: Settings) -> bool:
    """Whether the host makes the certificate."""
    return settings.airflow_proxy is not None and settings.airflow_proxy.certificate is None


def making(action: str, settings: Settings) -> str:
    """Command that makes the certificate, or with `check` says whether it is as it is to be."""
    named = [
        settings.address_for_pods,
        urlsplit(settings.airflow_base_url or "").hostname,
        *(settings.airflow_proxy.names if settings.airflow_proxy else []),
    ]
    return shlex.join([PROGRAM, action, FOLDER, *filter(None, named)])


def _write(proxy: Proxy, certificate: str, key: SecretStr) -> None:
    both = f"{certificate.rstrip()}\n{key.get_secret_value()}"
    secret_file(name="Write the certificate and its key", path=SERVER, content=SecretStr(both))
    files.file(name="Remove the key of the host's authority", path=AUTHORITYS_KEY, present=False)
    if proxy.ca_certificate:
        files.put(
            name="Write the certificate's authority",
            src=StringIO(proxy.ca_certificate),
            dest=AUTHORITY,
            mode="644",
        )
    else:
        files.file(name="Remove the certificate's authority", path=AUTHORITY, present=False)


def _is_told_to_pods(settings: Settings) -> bool:
    return settings.airflow_proxy is not None and settings.airflow_proxy.authority_is_own


def share(settings: Settings) -> None:
    """The namespaces of task pods have the authority."""
    if not _is_told_to_pods(settings):
        return
    there = f"get configmap {CONFIG_MAP} -o jsonpath='{{.data.ca\\.pem}}' | cmp -s - {AUTHORITY}"
    create = f"create configmap {CONFIG_MAP} --from-file={AUTHORITY} --dry-run=client -o json"
    kubectls = [f"{settings.kubectl} -n {namespace}" for namespace in settings.namespaces]
    settled(
        name="Give the cluster the certificate's authority",
        test=" && ".join(f"{kubectl} {there}" for kubectl in kubectls),
        commands=[f"{kubectl} {create} | {kubectl} apply -f -" for kubectl in kubectls],
        because="the cluster has it",
    )


def volumes(settings: Settings) -> list[Volume]:
    """What a pod mounts to trust the certificate."""
    if not _is_told_to_pods(settings):
        return []
    return [
        Volume(
            {"name": "authority", "configMap": {"name": CONFIG_MAP}},
            {"name": "authority", "mountPath": IN_POD, "readOnly": True},
        )
    ]


def environment(settings: Settings) -> dict[str, str]:
    """What tells a pod's tasks about it; they trust the public authorities as well."""
    if not _is_told_to_pods(settings):
        return {}
    return {"AIRFLOW__API__SSL_CERT": f"{IN_POD}/ca.pem"}
