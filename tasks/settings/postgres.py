"""Settings of PostgreSQL."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tasks.settings.types import Section


class Postgres(Section):
    """PostgreSQL."""

    heading: ClassVar[str] = "PostgreSQL"

    version: int | None = Field(
        default=None,
        ge=15,  # before, every role could replace functions and operators in a database
        le=18,
        description="Major version of PostgreSQL; none uses Debian's own.",
    )
    config: dict[str, str] = Field(
        default={},
        description="Additional options of postgresql.conf; they override the deploy's own.",
    )
