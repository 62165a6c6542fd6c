"""Settings of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from tasks.settings.deploys_own import POSTGRES_OPTIONS
from tasks.settings.types import Line, PostgresOption, Section


class Postgres(Section):
    """PostgreSQL."""

    heading: ClassVar[str] = "PostgreSQL"

    version: int | None = Field(
        default=None,
        ge=15,  # before, every role could replace functions and operators in a database
        le=18,
        description="Major version of PostgreSQL; none uses Debian's own.",
    )
    config: dict[PostgresOption, Line] = Field(
        default={},
        description="Additional options of postgresql.conf; they override the deploy's own.",
    )

    def conflicts(self) -> Iterator[str]:
        """Options of the deploy's own."""
        for name in self.config:
            if reason := POSTGRES_OPTIONS.get(name.lower()):
                yield f"postgres_config: the deploy itself decides {name}: {reason}"
