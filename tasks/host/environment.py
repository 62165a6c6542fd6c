"""The values of this host that the programs in files/usr/local read: /etc/airflow/host.env."""

from __future__ import annotations

import shlex
from io import StringIO

from pyinfra.operations import files

from tasks import layout
from tasks.host import tls
from tasks.layout import HOST_ENV, ROOT
from tasks.lib.operations import brought
from tasks.settings import HostSettings


def values(settings: HostSettings) -> dict[str, str]:
    """Each value by its name. None of them is secret: units of both users read the file."""
    return {
        "STATE": layout.STATE,
        "SECRETS": layout.SECRETS,
        "KUBECTL": settings.kubectl,
        "NAMESPACE": settings.kubernetes.namespace,
        # Airflow.
        "STARTED_WITH": layout.STARTED_WITH,
        "UNITS": " ".join(layout.UNITS),
        "WEB_URL": settings.web.local_url,
        "CERTIFICATE_NAMES": " ".join(tls.names(settings)),
        # Retention.
        "FAILED_PODS_MINUTES": str(settings.retention.failed_pod_minutes),
        "HISTORY_DAYS": str(settings.retention.history_days),
        "LOG_DAYS": str(settings.retention.log_days),
        "LOG_FOLDERS": " ".join([layout.LOGS, *settings.written_folders]),
        "NAMESPACES": " ".join(settings.kubernetes.namespaces),
    }


def render(settings: HostSettings) -> str:
    """The file, as sh and Python's shlex read it."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in values(settings).items()]
    return "# The deploy writes this file; the programs in /usr/local read it.\n" + "".join(lines)


def install(settings: HostSettings) -> None:
    """The host has the deploy's programs, and the file with the values that they read."""
    top = ROOT / "files/usr/local"
    brought(
        name="Install the deploy's programs",
        sources={
            str(path.relative_to(top)): path
            for path in sorted(top.rglob("*"))
            if path.is_file() and path.suffix != ".j2" and "__pycache__" not in path.parts
        },
        dest="/usr/local",
        record=layout.PROGRAMS_RECORD,
    )
    files.put(
        name=f"Write {HOST_ENV}",
        src=StringIO(render(settings)),
        dest=HOST_ENV,
        user="root",
        group="root",
        mode="644",
    )
