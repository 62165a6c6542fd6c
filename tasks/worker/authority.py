"""The pods' trust in the certificate that the host makes."""

from __future__ import annotations

from tasks.layout import AUTHORITY_CONFIG_MAP
from tasks.lib.manifests import Volume

IN_POD = "/opt/airflow/tls"


def volume() -> Volume:
    """The volume through which a pod has the certificate's authority."""
    return Volume(
        {"name": "authority", "configMap": {"name": AUTHORITY_CONFIG_MAP}},
        {"name": "authority", "mountPath": IN_POD, "readOnly": True},
    )


def environment() -> dict[str, str]:
    """The variables with which a pod's tasks trust it, in addition to the public authorities."""
    return {"AIRFLOW__API__SSL_CERT": f"{IN_POD}/ca.pem"}
