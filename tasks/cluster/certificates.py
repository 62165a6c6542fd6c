"""Kubernetes' own certificates, and the ends of all certificates of the host for Prometheus."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.layout import ROOT, UNITS_DIRECTORY, UNITS_RECORD
from tasks.lib import systemd
from tasks.lib.operations import ensure, synced_folder

PROGRAM = "certificates.py"
FILES = ROOT / "files" / UNITS_DIRECTORY.lstrip("/")
# Of a host without Airflow, whose target starts and stops the other timers.
UNITS = ("airflow-cluster-certificates.service", "airflow-cluster-certificates.timer")


def renew() -> None:
    """No certificate of the cluster on this host ends within 30 days, or has ended."""
    ensure(
        name="Renew Kubernetes' certificates",
        program=PROGRAM,
        args=["kubernetes"],
        already="none of the cluster expires within 30 days",
    )


def watch() -> None:
    """The ends of all certificates are recorded."""
    ensure(
        name="Record when certificates expire",
        program=PROGRAM,
        already="none of the cluster expires within 30 days, and the ends are recorded",
    )


@deploy("Kubernetes")
def keep() -> None:
    """A timer of its own renews the certificates of a cluster that is alone on its host."""
    synced_folder(
        name="Install the units that renew Kubernetes' certificates",
        sources={unit: FILES / unit for unit in UNITS},
        dest=UNITS_DIRECTORY,
        record=UNITS_RECORD,
    )
    systemd.load(
        name="Start the timer that renews Kubernetes' certificates",
        kind="timers",
        already="it runs as it is on the disk",
    )
