"""The timers of Airflow: airflow.target starts and stops them.

`systemctl list-timers 'airflow-*'` shows the last and the next time of each. Each timer starts the
service of the same name, which is a file beside it in files/etc/systemd/system.
"""

from __future__ import annotations

from collections.abc import Callable

from pyinfra.api import deploy

from tasks.cluster import certificates
from tasks.host import disks
from tasks.layout import UNITS_DIRECTORY
from tasks.lib import systemd
from tasks.lib.operations import run_unless
from tasks.settings import HostSettings

# Each timer, and whether the settings want it. Of several hosts the first one cleans up and backs
# up the shared data.
TIMERS: dict[str, Callable[[HostSettings], bool]] = {
    "liveness": lambda settings: True,
    "cleanup-pods": lambda settings: settings.retention.keeps_pods and settings.is_first,
    "backup": lambda settings: settings.retention.backups > 0 and settings.is_first,
    "cleanup-history": lambda settings: settings.retention.history_days > 0 and settings.is_first,
    "cleanup-logs": lambda settings: settings.retention.log_days > 0,
    "cleanup-images": lambda settings: settings.node_is_host,
    "certificate": lambda settings: True,
    "token": lambda settings: True,
    "disks": lambda settings: settings.metrics.port is not None,
}


def wanted(settings: HostSettings) -> list[str]:
    """The timers that the settings want."""
    return [name for name, is_wanted in TIMERS.items() if is_wanted(settings)]


def units(name: str) -> tuple[str, str]:
    """The names of a timer's unit and of its service's."""
    return f"airflow-{name}.timer", f"airflow-{name}.service"


@deploy("Timers")
def remove_unwanted(settings: HostSettings) -> None:
    """Timers that the settings do not want are gone. Each stops while its unit is still there."""
    for name in sorted(TIMERS.keys() - set(wanted(settings))):
        timer, service = (f"{UNITS_DIRECTORY}/{unit}" for unit in units(name))
        run_unless(
            name=f"Remove airflow-{name}",
            test=f"! test -e {timer}",
            commands=[
                f"systemctl disable --quiet --now airflow-{name}.timer",
                # The timer's file goes last: as long as it is there, this step is not done.
                f"rm -f {service} {timer}",
                "systemctl daemon-reload",
            ],
            already="it is not wanted",
        )


@deploy("Timers")
def run(settings: HostSettings) -> None:
    """Each wanted timer runs, and the ends of certificates and the room on disks are recorded."""
    systemd.load(name="Start the timers", kind="timers", already="they run as they are on the disk")
    certificates.watch()
    if settings.metrics.port is not None:
        disks.watch()
