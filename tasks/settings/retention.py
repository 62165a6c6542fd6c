"""Settings that limit how long things are kept."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tasks.settings.types import BackupRecipient, Section


class Retention(Section):
    """How long logs, history, backups, images and failed pods are kept."""

    heading: ClassVar[str] = "Retention and backups"

    log_days: int = Field(
        default=90,
        ge=0,
        description="Days that log files are kept, on the host and in a claim; 0 keeps them for"
        " ever.",
    )
    history_days: int = Field(
        default=365,
        ge=0,
        description="Days that runs stay in the database after they ended; 0 keeps them for ever.",
    )
    backups: int = Field(
        default=7, ge=0, description="Daily backups that are kept on the host; 0 makes none."
    )
    backup_recipient: BackupRecipient | None = Field(
        default=None,
        description="Public key to encrypt backups to, from `age-keygen` or `ssh-keygen -t"
        " ed25519`; none leaves them readable for root.",
    )
    worker_images: int = Field(
        default=2,
        ge=1,
        description="Built worker images that are kept, including the current one, and as many"
        " venvs; images that pods use are kept as well.",
    )
    failed_pod_minutes: int = Field(
        default=60,
        ge=0,
        description="Minutes that a failed pod is kept, at least; 0 deletes it at once.",
    )

    @property
    def keeps_pods(self) -> bool:
        """Whether pods are kept for a while after their end, and a timer has to delete them."""
        return self.failed_pod_minutes > 0
