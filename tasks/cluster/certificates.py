"""Kubernetes' own certificates, and the ends of all certificates of the host for Prometheus."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.layout import ROOT, UNITS_DIRECTORY, UNITS_RECORD
from tasks.lib import systemd
from tasks.lib.operations import ensure, synced_folder

PROGRAM = "certificates.sh"
FILES = ROOT / "files" / UNITS_DIRECTORY.lstrip("/")
# Of a host without Airflow, whose target starts and stops the other timers.
UNITS = ("airflow-cluster-certificates.service", "airflow-cluster-certificates.timer")


def watch() -> None:
    """No certificate of the cluster on this host ends within 30 days; the ends are recorded."""
    ensure(
        name="Renew Kubernetes' certificates and record when certificates end",
        program=PROGRAM,
        already="none of the cluster ends within 30 days, and the ends are recorded",
    )


@deploy("Kubernetes")
def keep() -> None:
    """The same on a host with the cluster of others, by a timer of its own; it records nothing."""
    synced_folder(
        name="Install the units that renew Kubernetes' certificates",
        sources={unit: FILES / unit for unit in UNITS},
        dest=UNITS_DIRECTORY,
        record=UNITS_RECORD,
    )
    systemd.load(name="Run their timer", kind="timers", already="it runs as it is on the disk")
    ensure(
        name="Renew Kubernetes' certificates",
        program=PROGRAM,
        already="none of the cluster ends within 30 days",
    )
