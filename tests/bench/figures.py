"""The figures: each with its unit, its baseline, which the same run measures, and its goal."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from tasks.layout import ROOT
from tasks.settings import Settings


class Goal(NamedTuple):
    """A limit of the median, or of its ratio to the baseline's."""

    limit: float
    of_ratio: bool = False
    at_least: bool = False


class Kind(NamedTuple):
    """A figure, before it is measured."""

    title: str
    unit: str
    baseline: str = ""
    goal: Goal | None = None


KINDS = {
    "tasks": Kind(
        "30 trivial tasks at once",
        "a minute",
        "30 bare pods that run python -c pass",
        Goal(0.45, of_ratio=True, at_least=True),
    ),
    "pod_cpu": Kind(
        "CPU of a trivial task's pod, with its children",
        "s",
        "a bare pod",
        Goal(0.9),
    ),
    "services_cpu": Kind(
        "CPU of services and node for each of 30 tasks",
        "s",
        "for each of 30 bare pods",
        Goal(0.6),
    ),
    "task": Kind(
        "A trivial task, from its trigger to its end", "s", "a bare pod", Goal(1.1, of_ratio=True)
    ),
    "idle": Kind("CPU of an idle host", "cores", "while Airflow is stopped", Goal(0.11)),
    "rerun": Kind("A deploy that changes nothing", "s", "a deploy without operations", Goal(4)),
    "commands": Kind(
        "Remote commands of a deploy that changes nothing",
        "commands",
        "a deploy without operations",
        Goal(120),
    ),
    "fresh": Kind(
        "First deploy with full caches, and its machine", "s", "the machine alone", Goal(90)
    ),
    "memory": Kind(
        "Memory of Airflow's four units",
        "GiB",
        "four processes that only import Airflow",
        Goal(0.85),
    ),
    "machine_memory": Kind("Memory of all processes of the host, pods included", "GiB"),
    "back": Kind("A scheduler that was killed runs again", "s"),
    "queues": Kind("A scheduler that was killed queues a new task", "s"),
    "image": Kind("Worker image", "GiB"),
}


class Spread(NamedTuple):
    """Values in short: the median, the least and the most."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of one or more values."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """How many times the others the values are: in pairs, or by their medians if they are not as
    many. Empty if there are no others, or one of them is 0."""
    if not values or not others:
        return []
    if len(values) != len(others):
        values, others = [statistics.median(values)], [statistics.median(others)]
    return [] if 0 in others else [a / b for a, b in zip(values, others, strict=True)]


def number(value: float) -> str:
    """A number with three digits that count; one of things that are counted has all of its own."""
    if isinstance(value, int):
        return str(value)
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


@dataclass
class Measured:
    """The values of a figure, and those of its baseline in the same order."""

    values: list[float]
    baseline: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)  # what the values consist of

    def reaches(self, goal: Goal) -> bool:
        """Whether the median is on the right side of a goal."""
        values = ratios(self.values, self.baseline) if goal.of_ratio else self.values
        median = statistics.median(values)
        return median >= goal.limit if goal.at_least else median <= goal.limit

    def told(self, name: str) -> str:
        """The figure in a line."""
        kind = KINDS[name]
        text = f"{kind.title}: {in_words(spread(self.values), kind.unit)}"
        if self.baseline:
            text += f"; {kind.baseline}: {in_words(spread(self.baseline), kind.unit)}"
        if factor := ratios(self.values, self.baseline):
            text += f"; {in_words(spread(factor), 'times that')}"
        if kind.goal:
            text += f"; goal {goal_in_words(kind)}"
            text += ", reached" if self.reaches(kind.goal) else ", not reached"
        parts = [f"{part} {number(statistics.median(v))}" for part, v in self.parts.items()]
        return text + ("; " + ", ".join(parts) if parts else "")

    def as_json(self, name: str) -> dict[str, Any]:
        """All of it, with the medians and spreads that readers want."""
        kind = KINDS[name]
        found: dict[str, Any] = {
            "title": kind.title,
            "unit": kind.unit,
            "measured": date.today().isoformat(),
            **spread(self.values)._asdict(),
            "values": self.values,
        }
        if self.baseline:
            about = {"title": kind.baseline, **spread(self.baseline)._asdict()}
            found["baseline"] = {**about, "values": self.baseline}
        if factor := ratios(self.values, self.baseline):
            found["ratio"] = spread(factor)._asdict()
        if kind.goal:
            found["goal"] = {**kind.goal._asdict(), "reached": self.reaches(kind.goal)}
        if self.parts:
            found["parts"] = {part: spread(v)._asdict() for part, v in self.parts.items()}
        return found


def in_words(about: Spread, unit: str) -> str:
    """A median with its unit and spread."""
    text = f"{number(about.median)} {unit}"
    if about.low < about.high:
        text += f" ({number(about.low)} to {number(about.high)})"
    return text


def goal_in_words(kind: Kind) -> str:
    """A goal with its unit."""
    assert kind.goal
    word = "at least" if kind.goal.at_least else "at most"
    unit = "of the baseline" if kind.goal.of_ratio else kind.unit
    return f"{word} {kind.goal.limit:g} {unit}"


def commit() -> str:
    """This commit, with a + if files of the checkout differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def facts(release: str, commit: str) -> dict[str, Any]:
    """What figures depend on: this machine, which carries the sandbox's, and the versions."""
    settings = Settings.from_data({})
    models = re.findall(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "commit": commit,
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "kernel": platform.release(),
        "debian": release,
        "airflow": settings.airflow.version,
        "kubernetes": settings.kubernetes.version,
    }


def keep(path: Path, about: dict[str, Any], measured: dict[str, Measured]) -> dict[str, Any]:
    """Write figures to a file, beside those that it has of the same machine and commit.

    Raises ValueError if it has those of another one.
    """
    found: dict[str, Any] = {"machine": about, "figures": {}}
    if path.exists():
        found = json.loads(path.read_text())
        if found["machine"] != about:
            differing = sorted(key for key in about if found["machine"].get(key) != about[key])
            raise ValueError(
                f"{path} has figures of another {', '.join(differing)}: choose another file."
            )
    found["figures"] |= {name: each.as_json(name) for name, each in measured.items()}
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return found
