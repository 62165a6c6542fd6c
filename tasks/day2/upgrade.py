"""An upgrade: Airflow is stopped and backed up while it becomes another version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyinfra.api import deploy

from tasks.layout import (
    BACKUP,
    BACKUPS,
    MIGRATED,
    UNITS,
)
from tasks.lib.operations import settled
from tasks.settings import HostSettings

# While the upgrade runs. The next run finds it after a kill, and so makes no backup of a half
# upgraded Airflow.
PENDING = f"{BACKUPS}/before-upgrade-pending.tar"


@contextmanager
def guard(settings: HostSettings) -> Iterator[None]:
    """Enclose the operations that change Airflow from one version to another.

    If the version or a package changes, Airflow is stopped and backed up before them. Tasks that
    run wait for the new version's services.
    """
    _begin(settings)
    yield
    _end()


@deploy("Upgrade")
def _begin(settings: HostSettings) -> None:
    """Airflow is stopped and backed up if its version or a package will change."""
    settled(
        name="Stop Airflow and back it up",
        test=f"! test -s {MIGRATED} || grep -q '^{settings.venv_key} ' {MIGRATED}",
        commands=[
            f"test -e {PENDING} || {BACKUP} --check",
            f"systemctl stop {' '.join(UNITS)}",
            f"test -e {PENDING} || {BACKUP} before-upgrade-pending >/dev/null"
            " || { systemctl start airflow.target; exit 1; }",
        ],
        because="it is installed with these packages",
    )


@deploy("Upgrade")
def _end() -> None:
    """The backup of before the upgrade has its name, now that Airflow runs with the new version."""
    settled(
        name="Keep the backup of before",
        test=f"! test -e {PENDING}",
        commands=[f"mv {PENDING} {BACKUPS}/before-upgrade-$(date -u +%Y%m%dT%H%M%SZ).tar"],
        because="there was no upgrade",
    )
