"""Good hosts' answers, and the preflight's findings about one that answers otherwise."""

from __future__ import annotations

import time
from typing import Any

from tasks import layout
from tasks.preflight.checks import findings
from tasks.preflight.questions import Report
from tasks.settings import Settings

GIB = 2**20  # in KiB, as the host counts

GOOD = {
    "systemd": ["yes"],
    "uid": ["0"],
    "system": ["debian bookworm"],
    "architecture": ["amd64"],
    "memory_kib": [str(4 * GIB)],
    "disk_kib": [f"/opt {40 * GIB}", f"/var {40 * GIB}"],
    "ahead": ["0"],
}


def found(answers: dict[str, list[str]], given: dict[str, Any] | None = None) -> list[str]:
    """The findings about a good host that answers some questions otherwise."""
    return findings(Settings.from_data(given or {}), Report({**GOOD, **answers}))


# Of a host that serves others.
SYSTEM = (
    *("systemd yes", "uid 0", "system debian bookworm", "architecture amd64", "pythons 3.11"),
    *("own_name db-1", "room / 9000000 1000000 900000"),
)


def of_serving(number: int = 9, *more: str, without: str = "", behind: int = 0) -> dict[str, Any]:
    """How a host of an inventory with groups answers all that it is asked about."""
    now = f"time {int(time.time()) - behind}"
    kept = [line for line in SYSTEM if not without or not line.startswith(without)]
    names = (f"host-{number}", f"192.0.2.{number}")
    member = [f"hostname {names[0]}", *(f"name {each}" for each in names), f"address {names[1]}"]
    return {
        f"migrated={layout.DATABASE_MADE}": [*kept, now, *more],
        "port=543": [f"to 192.0.2.{number}", f"from 192.0.2.{number}"],
        "name=$(own_name": [*member, "system debian bookworm on amd64", now],
    }
