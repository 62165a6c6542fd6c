"""An upgrade: Airflow is stopped and backed up while it changes from one version to another.

Several hosts are backed up, and change one by one, where the database's schema stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.layout import BACKUP, BACKUP_PENDING, BACKUPS, LIB, RESTORE, ROLLBACK
from tasks.lib import members
from tasks.lib.operations import ensure, run_unless
from tasks.settings import HostSettings


@contextmanager
def guard(settings: HostSettings) -> Iterator[None]:
    """Enclose the operations that change Airflow from one version to another.

    If the version or a package changes, Airflow is stopped and backed up before them. Tasks that
    run wait for the services of the new version. Hosts that may change one by one are not stopped.
    """
    _begin(settings)
    yield
    _end()


@deploy("Upgrade")
def _begin(settings: HostSettings) -> None:
    """Airflow is stopped and backed up if its version or a package will change."""
    ensure(
        name="Create the key that signs backups",
        program="backup-key.sh",
        already="it was made before",
    )
    # One program restores and rolls back: it sees from its name which of the two it should do.
    files.link(
        name="Link the command airflow-rollback to airflow-restore",
        path=ROLLBACK,
        target=RESTORE,
    )
    if settings.members:
        _stop_the_others(settings)
    if settings.is_first:
        unless = ", and stop it unless the hosts may change one by one"
        ensure(
            name=f"Back Airflow up{unless}" if settings.members else "Stop Airflow and back it up",
            program="upgrade.sh",
            args=[settings.venv_key],
            already="it is installed with these packages",
        )


def _stop_the_others(settings: HostSettings) -> None:
    """The other hosts of this Airflow are stopped before the first one makes the backup, unless it
    finds that they need not. It alone decides, since all must do the same."""
    members.copy_from_first(name="Copy the key that signs backups", kind="backups")
    unchanged = f"{LIB}/upgrade.sh check {settings.venv_key}"
    if settings.is_first:
        run_unless(
            name="Find out whether a backup can be made",
            test=unchanged,
            commands=[f"{BACKUP} --check"],
            already="none is needed",
        )
    members.unless_first(
        name="Stop the other hosts, unless the hosts may change one by one",
        question=f"{LIB}/rolling.py check {settings.venv_key}",
        test=unchanged,
        commands=[f"{LIB}/upgrade.sh apply {settings.venv_key} elsewhere"],
        already="they go on, or this is the first host",
    )
    members.in_step(name="Wait until the other hosts have stopped")


@deploy("Upgrade")
def _end() -> None:
    """The backup from before the upgrade has its name, now that Airflow runs with the new version.

    After a kill, the next run finds the pending backup and makes no second one.
    """
    pending, name = f"{BACKUPS}/{BACKUP_PENDING}.tar", "before-upgrade-$(date -u +%Y%m%dT%H%M%SZ)"
    run_unless(
        name="Keep the backup from before the upgrade",
        test=f"! test -e {pending}",
        commands=[
            f"mv {pending} {BACKUPS}/{name}.tar",
            f"rm -f {BACKUPS}/{BACKUP_PENDING}.ran",
            f"sync {BACKUPS}",
        ],
        already="there was no upgrade",
    )
