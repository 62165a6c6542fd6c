"""Units of systemd: load them, run them as they are on the disk, remove unwanted ones.

The deploy's units are files in files/etc/systemd/system. A unit whose inputs matter while it runs
records their checksums when it starts, so the deploy can compare them at any time. A deploy that
was killed between writing a file and restarting a unit is healed by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tasks.lib.operations import ensure, ensure_sent

_GONE = Path(__file__).with_name("unit-gone.sh")


def load(name: str, kind: Literal["services", "timers"], already: str) -> None:
    """systemd has read all units of Airflow, and starts its services, or its timers, with it."""
    ensure(name=name, program="load-units.sh", args=[kind], already=already)


def run(unit: str) -> None:
    """A unit runs with its inputs as they are."""
    ensure(
        name=f"Run {unit.removesuffix('.service')}",
        program="run-unit.sh",
        args=[unit],
        already="it runs with its inputs as they are",
    )


def gone(name: str, units: Sequence[str], drop_in: str, files: Sequence[str]) -> None:
    """Units of packages that stay do not run, and the deploy's files for them are gone."""
    ensure_sent(
        name=name, program=_GONE, args=[drop_in, ",".join(units), *files], already="there is none"
    )
