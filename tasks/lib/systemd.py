"""What systemd knows of units."""

from __future__ import annotations

from tasks.layout import (
    STARTED_WITH,
)


def runs_with_inputs(unit: str) -> str:
    """Shell test whether a unit runs, with its inputs as they are."""
    return (
        f'test "$(systemctl is-active {unit})" = active'
        f" && sha256sum --check --status {STARTED_WITH}/{unit}"
    )
