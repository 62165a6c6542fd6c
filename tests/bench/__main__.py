"""Measure a deployed machine: `AIRFLOW_SANDBOX=NAME uv run python -m tests.bench [MEASUREMENT …]`.

Each figure is printed as it is measured, with the baseline of the same run and its goal. Nothing
else should run on this machine meanwhile; figures are of this machine on this day, so compare
ratios. `python -m tests.bench compare COMMIT COMMIT` deploys two commits and compares them,
`python -m tests.bench drivers` deploys with each of minikube's drivers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench import compare, drivers, figures, plot
from tests.bench.host import Host
from tests.bench.measure import MEASUREMENTS, measure
from tests.e2e.support import machine_name
from tests.sandbox import machine as machines
from tests.sandbox.common import SandboxError
from tests.stories import RELEASES


def main(words: list[str]) -> None:
    """Run the command line."""
    others = {"compare": compare.main, "drivers": drivers.main}
    if words and words[0] in others:
        others[words[0]](words[1:])
        return
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    every = ", ".join(MEASUREMENTS)
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", help=f"{every}; or all")
    parser.add_argument("--json", type=Path, help="write the figures there, beside those it has")
    parser.add_argument("--svg", type=Path, help="draw the figures of --json there")
    chosen = parser.parse_args(words)
    names = chosen.measurements or list(MEASUREMENTS)
    if unknown := {*names} - {*MEASUREMENTS}:
        parser.error(f"{', '.join(sorted(unknown))}: there are {every}")
    if chosen.svg and not chosen.json:
        parser.error("--svg goes with --json")
    release = RELEASES[0] if names == ["fresh"] else machines.load(machine_name()).release
    host = Host(machine_name(), release)
    about = figures.facts(release, figures.commit())
    if chosen.json:
        figures.keep(chosen.json, about, {})  # before an hour is spent
    for found in measure(host, names):
        if chosen.json:
            kept = figures.keep(chosen.json, about, found)
            if chosen.svg:
                chosen.svg.write_text(plot.svg(kept))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (SandboxError, ValueError) as problem:
        sys.exit(str(problem))
