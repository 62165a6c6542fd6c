"""The certificate that the host makes, of an authority (CA) of its own, and the pods' trust in it.

Browsers are shown another one if the inventory has one.
"""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from pydantic import SecretStr
from pyinfra.operations import files

from tasks.operations import secret_file, settled
from tasks.pods import Volume
from tasks.settings import Settings

FOLDER = "/etc/airflow/tls"
# A certificate and its key are one file, so that both change in one step.
MADE = f"{FOLDER}/server.pem"
GIVEN = f"{FOLDER}/web.pem"
AUTHORITY = f"{FOLDER}/ca.pem"  # whom pods are to trust
AUTHORITYS_KEY = f"{FOLDER}/ca-key.pem"
PROGRAM = "/usr/local/lib/airflow/certificate"

CONFIG_MAP = "airflow-authority"
IN_POD = "/opt/airflow/tls"


def provide(settings: Settings) -> None:
    """The host has the certificates with their keys, and the authority that pods are to trust."""
    files.directory(name=f"Create {FOLDER}", path=FOLDER, user="root", group="root", mode="755")
    files.put(
        name="Write what makes the certificate", src=f"files{PROGRAM}", dest=PROGRAM, mode="755"
    )
    settled(
        name="Make the certificate",
        test=making("check", settings),
        commands=[making("make", settings)],
        because="it is of the host's own authority, for all of its names",
    )
    given = settings.airflow_web_certificate
    if given is None:
        files.file(name="Remove the web page's own certificate", path=GIVEN, present=False)
        return
    both = f"{given.certificate.rstrip()}\n{given.key.get_secret_value()}"
    secret_file(name="Write the web page's own certificate", path=GIVEN, content=SecretStr(both))


def of_page(settings: Settings) -> str:
    """Which file has what the web page shows to browsers."""
    return GIVEN if settings.airflow_web_certificate else MADE


def making(action: str, settings: Settings) -> str:
    """Command that makes the certificate, or with `check` says whether it is as it is to be."""
    named = [
        settings.address_for_pods,
        urlsplit(settings.airflow_base_url or "").hostname,
        *settings.airflow_host_names,
    ]
    return shlex.join([PROGRAM, action, FOLDER, *filter(None, named)])


def share(settings: Settings) -> None:
    """The namespaces of task pods have the authority."""
    there = f"get configmap {CONFIG_MAP} -o jsonpath='{{.data.ca\\.pem}}' | cmp -s - {AUTHORITY}"
    create = f"create configmap {CONFIG_MAP} --from-file={AUTHORITY} --dry-run=client -o json"
    kubectls = [f"{settings.kubectl} -n {namespace}" for namespace in settings.namespaces]
    settled(
        name="Give the cluster the certificate's authority",
        test=" && ".join(f"{kubectl} {there}" for kubectl in kubectls),
        commands=[f"{kubectl} {create} | {kubectl} apply -f -" for kubectl in kubectls],
        because="the cluster has it",
    )


def volume() -> Volume:
    """What a pod mounts to trust the certificate."""
    return Volume(
        {"name": "authority", "configMap": {"name": CONFIG_MAP}},
        {"name": "authority", "mountPath": IN_POD, "readOnly": True},
    )


def environment() -> dict[str, str]:
    """What tells a pod's tasks about it; they trust the public authorities as well."""
    return {"AIRFLOW__API__SSL_CERT": f"{IN_POD}/ca.pem"}
