"""Compare minikube's drivers: `uv run python -m tests.bench drivers [DRIVER …]`.

This checkout is deployed on a new machine for each driver, one after the other, and measured there.
The first deploy also installs the driver's engine. Figures are of one machine on one day: compare
the columns.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tests.bench.figures import KINDS, Measured, commit, facts, in_words, spread
from tests.bench.host import Host
from tests.bench.measure import FRESH, MEASUREMENTS
from tests.sandbox import engines
from tests.sandbox import machine as machines
from tests.sandbox.common import progress
from tests.stories import RELEASES

TIMES = {"rerun": 2, "single": 5, "parallel": 1, "idle": 1, "memory": 1}


def measured(driver: str, release: str) -> dict[str, Measured]:
    """The figures of a new machine with this driver; the machine is removed afterwards."""
    machines.remove(FRESH)
    try:
        began = time.monotonic()
        made = machines.create(FRESH, release, driver)
        if driver != "none":
            engines.prepare(made, driver)
        alone = time.monotonic() - began
        host = Host(FRESH, release)
        progress(f"{driver}: deploying…")
        host.deploy()
        found = {"fresh": Measured([time.monotonic() - began], [alone])}
        for name, times in TIMES.items():
            for figure, each in MEASUREMENTS[name](host, times).items():
                progress(f"{driver}: {each.told(figure)}")
                found[figure] = each
    finally:
        machines.remove(FRESH)
    return found


def table(found: dict[str, dict[str, Measured]]) -> str:
    """The medians and spreads of each driver, in Markdown."""
    rows = [["Figure", *found], ["---"] * (1 + len(found))]
    for name, kind in KINDS.items():
        cells = [
            in_words(spread(figures[name].values), kind.unit) if name in figures else ""
            for figures in found.values()
        ]
        if any(cells):
            rows.append([kind.title, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def keep(path: Path, about: dict[str, Any], found: dict[str, dict[str, Measured]]) -> None:
    """Write all values of the drivers that were measured so far to a file."""
    values = {
        driver: {name: figure.as_json(name) for name, figure in figures.items()}
        for driver, figures in found.items()
    }
    answer = {"machine": about, "drivers": values}
    path.write_text(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")


def main(words: list[str]) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench drivers", description=__doc__)
    parser.add_argument(
        "drivers", nargs="*", metavar="DRIVER", help=f"{', '.join(engines.DRIVERS)}; otherwise all"
    )
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    parser.add_argument("--json", type=Path, help="write all values there")
    chosen = parser.parse_args(words)
    names = chosen.drivers or engines.DRIVERS
    if unknown := {*names} - {*engines.DRIVERS}:
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(engines.DRIVERS)}")
    about = facts(chosen.release, commit())
    found: dict[str, dict[str, Measured]] = {}
    if chosen.json:
        keep(chosen.json, about, found)  # before an hour is spent
    for driver in names:
        found[driver] = measured(driver, chosen.release)
        if chosen.json:
            keep(chosen.json, about, found)
    print(table(found))
