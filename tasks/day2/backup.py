"""The command that goes back to the backup from before an upgrade.

The commands airflow-backup and airflow-restore are programs in files/usr/local/bin.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.layout import RESTORE, ROLLBACK
from tasks.lib.operations import ensure


@deploy("Backup")
def install() -> None:
    """The host has the key that signs its backups, and the command that undoes an upgrade."""
    ensure(
        name="Make the key that signs backups",
        program="backup-key.sh",
        already="it was made before",
    )
    # One program: it sees from its name which of the two it should do.
    files.link(
        name="Link the command airflow-rollback to airflow-restore",
        path=ROLLBACK,
        target=RESTORE,
    )
