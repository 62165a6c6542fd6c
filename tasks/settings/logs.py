"""Settings of the place of task logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from tasks.settings.types import Claim, S3Logs, Section


class Logs(Section):
    """The place of task logs."""

    heading: ClassVar[str] = "Task logs"

    store: Literal["host", "volume_claim", "s3"] = Field(
        default="host",
        description="Where task logs are kept: the `host`'s folder `/var/log/airflow`, a"
        " `volume_claim`, or `s3`.",
    )
    claim: Claim | None = Field(default=None, description="Volume claim for `volume_claim` logs.")
    s3: S3Logs | None = Field(default=None, description="Folder and connection for `s3` logs.")

    def conflicts(self) -> Iterator[str]:
        """Settings that a store needs or does not use."""
        for needed, key, given, value in (
            ("volume_claim", "logs_claim", self.claim, "claim"),
            ("s3", "logs_s3", self.s3, "folder and connection"),
        ):
            if self.store == needed and given is None:
                yield f'{key}: logs_store = "{needed}" needs it; write its {value}'
            elif self.store != needed and given is not None:
                yield (
                    f'{key} has no meaning with logs_store = "{self.store}": write "{needed}" there'
                )
