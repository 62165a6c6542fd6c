"""Figures for Prometheus: Debian's exporter for PostgreSQL, which also asks Airflow's tables.

It runs even when Airflow is stopped, so alerts still work.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.layout import (
    DATABASE,
    METRICS_SOCKET,
    METRICS_UNIT,
    METRICS_USER,
    PACKAGES_RECORD,
    STARTED_WITH,
    UNITS_DIRECTORY,
)
from tasks.lib import whole_file
from tasks.lib.operations import ensure, packages, run_unless
from tasks.settings import HostSettings

PACKAGE = "prometheus-postgres-exporter"
DROP_INS = f"{UNITS_DIRECTORY}/{METRICS_UNIT}.d"
DROP_IN = f"{DROP_INS}/airflow.conf"
SANDBOX = f"{DROP_INS}/10-airflow-sandbox.conf"  # the same that Airflow's services have
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
        dest=SANDBOX,
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
        src=f"files{DROP_IN}.j2",
        dest=DROP_IN,
        mode="644",
        socket=METRICS_SOCKET,
        port=settings.postgres_port,
        database=DATABASE,
        role=METRICS_USER,
        queries=QUERIES,
        inputs=(SANDBOX, SOCKET, DROP_IN, QUERIES),
        started_with=STARTED_WITH,
    )
    packages(name=f"Install {PACKAGE}", packages=[PACKAGE], record=PACKAGES_RECORD)
    ensure(
        name=f"Run {PACKAGE}",
        program="metrics.sh",
        args=[str(settings.metrics.port)],
        already="it runs with its inputs as they are",
    )
    files.file(name="Remove the exporter's earlier queries", path=EARLIER_QUERIES, present=False)


def remove() -> None:
    """No endpoint; the package stays, without running."""
    run_unless(
        name="Remove the endpoint for Prometheus",
        test=f"! test -e {DROP_IN}",
        commands=[
            f"systemctl disable --quiet --now {METRICS_SOCKET} 2>/dev/null || true",
            f"systemctl disable --quiet --now {METRICS_UNIT} 2>/dev/null || true",
            f"rm -f {EARLIER_QUERIES} {STARTED_WITH}/{METRICS_UNIT}",
            f"rm -f {SOCKET}",
            # The folder may hold a drop-in of an admin.
            f"rm -f {SANDBOX}",
            f"rm -f {DROP_IN}",
            f"rmdir {DROP_INS} 2>/dev/null || true",
            "systemctl daemon-reload",
        ],
        already="there is none",
    )
