"""Compare two commits: `uv run python -m tests.bench compare COMMIT COMMIT [MEASUREMENT …]`.

Each commit is deployed by its own code on a new machine of its own, both of one Debian release on
this one. Then both are measured in turns by the bench of this checkout, and in each round the other
one begins. A round gives a pair for each figure, and its ratio is the second commit's value by the
first one's. The machine that waits is idle and takes the same from both. Ratios of the baselines,
which are the same on both machines, tell how much is chance.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tasks.layout import ROOT
from tests.bench.figures import KINDS, Measured, facts, in_words, ratios, spread
from tests.bench.host import Host
from tests.bench.measure import MEASUREMENTS, in_turns
from tests.sandbox import machine as machines
from tests.sandbox.common import SandboxError, progress
from tests.stories import RELEASES

DEFAULT = ("single", "parallel", "idle", "rerun", "memory")
TIMES = {"single": 3}  # in a round; others once
NAMES = ("airflow-bench-1", "airflow-bench-2")

Pairs = dict[str, list[tuple[Measured, Measured]]]  # of each figure, a pair a round


def resolved(commit: str) -> str:
    """The whole name of a commit; raises SandboxError if the checkout has none of this name."""
    command = [
        "git",
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        f"{commit}^{{commit}}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"There is no commit {commit!r} in this checkout.")
    return done.stdout.strip()


def check_out(commit: str, folder: Path) -> Path:
    """Put the files of a commit into a folder, with a virtual environment to run its deploy."""
    folder.mkdir()
    pack = f"git archive {commit} | tar -x -C {shlex.quote(str(folder))}"
    subprocess.run(pack, shell=True, cwd=ROOT, check=True)
    sync = ". tests/sandbox/tools.sh; unset VIRTUAL_ENV; uv sync --quiet --frozen"
    subprocess.run(["bash", "-c", sync], cwd=folder, check=True)
    return folder


def measured_in_turns(hosts: tuple[Host, Host], names: list[str], rounds: int) -> Pairs:
    """Measure both hosts, the other one first in each round."""
    values: tuple[dict[str, list[Measured]], ...] = ({}, {})

    def one(number: int) -> None:
        for name in names:
            found = MEASUREMENTS[name](hosts[number], TIMES.get(name, 1))
            for figure, measured in found.items():
                progress(f"{hosts[number].name}: {measured.told(figure)}")
                values[number].setdefault(figure, []).append(measured)

    in_turns(rounds, lambda: one(0), lambda: one(1))
    return {
        figure: list(zip(values[0][figure], values[1][figure], strict=True)) for figure in values[0]
    }


def of_pairs(pairs: list[tuple[list[float], list[float]]]) -> list[float]:
    """The ratio of each pair of values: the second one's median by the first one's."""
    if not all(first and second for first, second in pairs):
        return []
    first = [statistics.median(each) for each, _ in pairs]
    second = [statistics.median(each) for _, each in pairs]
    return ratios(second, first)


def compared(pairs: Pairs) -> dict[str, dict[str, Any]]:
    """The ratios of each figure and of its baseline, with their medians and spreads."""
    found: dict[str, dict[str, Any]] = {}
    for figure, each in pairs.items():
        sides = {
            "ratio": of_pairs([(a.values, b.values) for a, b in each]),
            "baseline": of_pairs([(a.baseline, b.baseline) for a, b in each]),
        }
        found[figure] = {
            name: {**spread(values)._asdict(), "values": values}
            for name, values in sides.items()
            if values
        }
    return found


def told(found: dict[str, dict[str, Any]]) -> str:
    """The ratios, a line for each figure."""
    lines = []
    for figure, about in found.items():
        texts = [
            f"{prefix}{in_words(spread(about[name]['values']), 'times')}"
            for name, prefix in (("ratio", ""), ("baseline", "the baseline "))
            if name in about
        ]
        lines.append(f"{KINDS[figure].title}: {', '.join(texts) or 'no ratio'}")
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench compare", description=__doc__)
    parser.add_argument("commits", nargs=2, metavar="COMMIT")
    every = ", ".join(MEASUREMENTS)
    parser.add_argument(
        "measurements",
        nargs="*",
        metavar="MEASUREMENT",
        help=f"{every}; otherwise {', '.join(DEFAULT)}",
    )
    parser.add_argument("--rounds", type=int, default=3, help="each measures both (3)")
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    parser.add_argument("--json", type=Path, help="write all values there")
    parser.add_argument("--keep", action="store_true", help="keep both machines")
    chosen = parser.parse_args(words)
    names = chosen.measurements or list(DEFAULT)
    if unknown := {*names} - {*MEASUREMENTS}:
        parser.error(f"{', '.join(sorted(unknown))}: there are {every}")
    if chosen.rounds < 1:
        parser.error("--rounds takes a number from 1")
    commits = [resolved(each) for each in chosen.commits]
    with tempfile.TemporaryDirectory() as folder:
        try:
            first, second = (
                deployed(name, check_out(commit, Path(folder, name)), chosen.release)
                for name, commit in zip(NAMES, commits, strict=True)
            )
            pairs = measured_in_turns((first, second), names, chosen.rounds)
        finally:
            if not chosen.keep:
                for name in NAMES:
                    machines.remove(name)
    found = compared(pairs)
    if chosen.json:
        values = {
            figure: [[a.as_json(figure), b.as_json(figure)] for a, b in each]
            for figure, each in pairs.items()
        }
        about = facts(chosen.release, " ".join(commits))
        answer = {"machine": about, "compared": found, "measured": values}
        chosen.json.write_text(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
    print(f"{chosen.commits[1]} by {chosen.commits[0]}, medians of {chosen.rounds} rounds:")
    print(told(found))


def deployed(name: str, checkout: Path, release: str) -> Host:
    """A new machine into which the code of a checkout was deployed."""
    progress(f"{name}: making and deploying it…")
    machines.remove(name)
    machines.create(name, release)
    host = Host(name, release, checkout)
    host.deploy()
    return host
