"""Settings of the endpoint for Prometheus."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tasks.settings.types import Port, Section


class Metrics(Section):
    """The endpoint for Prometheus."""

    heading: ClassVar[str] = "Metrics"

    port: Port | None = Field(
        default=None,
        description="Port of the Prometheus endpoint, on all addresses; none disables it.",
    )
