"""A good host's answers, and the preflight's findings about one that answers otherwise."""

from __future__ import annotations

from typing import Any

from tasks.preflight.checks import findings
from tasks.preflight.questions import Report
from tasks.settings import Settings

NOW = 1_800_000_000.0
GIB = 2**20  # in KiB, as the host counts

GOOD = {
    "systemd": ["yes"],
    "uid": ["0"],
    "system": ["debian bookworm"],
    "architecture": ["amd64"],
    "memory_kib": [str(4 * GIB)],
    "disk_kib": [f"/opt {40 * GIB}", f"/var {40 * GIB}"],
    "time": [str(int(NOW))],
}


def found(answers: dict[str, list[str]], given: dict[str, Any] | None = None) -> list[str]:
    """The findings about a good host that answers some questions otherwise."""
    return findings(Settings.from_data(given or {}), Report({**GOOD, **answers}), NOW)
