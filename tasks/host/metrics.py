"""Figures for Prometheus: Debian's exporter for PostgreSQL, which also asks Airflow's tables.

It runs even when Airflow is stopped, so alerts still work.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.layout import (
    DATABASE,
    METRICS_DROP_IN,
    METRICS_PACKAGE,
    METRICS_SANDBOX,
    METRICS_SOCKET,
    METRICS_UNIT,
    METRICS_USER,
    PACKAGES_RECORD,
    STARTED_WITH,
    UNITS_DIRECTORY,
)
from tasks.lib import systemd, whole_file
from tasks.lib.operations import ensure, packages
from tasks.settings import HostSettings

SOCKET = f"{UNITS_DIRECTORY}/{METRICS_SOCKET}"
QUERIES = f"{layout.LIB}/metrics.yaml"
EARLIER_QUERIES = "/etc/airflow/metrics.yaml"


@deploy("Metrics")
def run(settings: HostSettings) -> None:
    """The endpoint is there, or is not, as the settings say."""
    if settings.metrics.port is None:
        remove()
        return
    # Before the package, which starts the unit.
    whole_file.put(
        name=f"Write the sandbox of {METRICS_UNIT}",
        src=f"files{layout.SANDBOX}",
        dest=METRICS_SANDBOX,
        mode="644",
    )
    whole_file.template(
        name=f"Write {METRICS_SOCKET}",
        src=f"files{SOCKET}.j2",
        dest=SOCKET,
        mode="644",
        address=f"{settings.wildcard_address}:{settings.metrics.port}",
    )
    whole_file.template(
        name=f"Write the drop-in of {METRICS_UNIT}",
        src=f"files{METRICS_DROP_IN}.j2",
        dest=METRICS_DROP_IN,
        mode="644",
        socket=METRICS_SOCKET,
        port=settings.postgres_port,
        database=DATABASE,
        role=METRICS_USER,
        queries=QUERIES,
        inputs=(METRICS_SANDBOX, SOCKET, METRICS_DROP_IN, QUERIES),
        started_with=STARTED_WITH,
    )
    packages(name=f"Install {METRICS_PACKAGE}", packages=[METRICS_PACKAGE], record=PACKAGES_RECORD)
    ensure(
        name=f"Run {METRICS_PACKAGE}",
        program="metrics.sh",
        args=[str(settings.metrics.port)],
        already="it runs with its inputs as they are",
    )
    files.file(name="Remove the exporter's earlier queries", path=EARLIER_QUERIES, present=False)


def remove() -> None:
    """No endpoint; the package stays, without running."""
    systemd.gone(
        name="Remove the endpoint for Prometheus",
        units=[METRICS_SOCKET, METRICS_UNIT],
        drop_in=METRICS_DROP_IN,
        files=[EARLIER_QUERIES, f"{STARTED_WITH}/{METRICS_UNIT}", SOCKET, METRICS_SANDBOX],
    )
