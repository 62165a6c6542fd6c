"""Shared by the tests of a host: types of its answers, and how a script runs over there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from testinfra.host import Host

from tasks.settings import HostSettings, Settings
from tests.host import expected

__all__ = [
    "BACKUP_EXPOSURE",
    "MAX_EXPOSURE",
    "OWN_POSTGRES",
    "Facts",
    "Host",
    "InVenv",
    "Listener",
    "Process",
    "each_unit",
    "if_wanted",
    "only_if",
    "properties",
    "python",
]

ON_HOST = Path(__file__).parent / "on_host"

# Exposure as systemd computes it, times 10: from 0 to 100. Services without a sandbox have 92.
MAX_EXPOSURE = 15
BACKUP_EXPOSURE = 22  # to an existing database

each_unit = pytest.mark.parametrize("unit", expected.UNITS)


class Facts(NamedTuple):
    """The facts that decide about the tests of a host."""

    settings: HostSettings
    given: Settings  # without the values that depend on the Debian release
    backups: dict[str, float]  # when each was made, by its path; the newest first
    backup_program: float  # when the program that makes them was written
    nightly_backup: float  # when the timer last began to make one, with success; 0 if never
    histories: list[str]  # files in which shells keep typed commands
    sites: list[str]  # nginx's configuration beside the deploy's


def only_if(condition: Callable[[Facts], object], otherwise: str) -> pytest.MarkDecorator:
    """Leave a test out, and print why, if the condition does not hold.

    Tests must not skip themselves: a host would pass however little of it was looked at.
    """
    return pytest.mark.only_if.with_args(condition, otherwise)


OWN_POSTGRES = only_if(
    lambda facts: expected.own_postgres(facts.settings), "the PostgreSQL is not the host's own"
)


def if_wanted(row: expected.Row, otherwise: str) -> pytest.MarkDecorator:
    """Leave a test out where a row of a table does not hold."""
    return only_if(lambda facts: row.when(facts.settings), otherwise)


class Listener(NamedTuple):
    """A TCP or UDP socket that waits for others."""

    who: str  # the unit that has it; in a pod, the program
    address: str
    port: str


class Process(NamedTuple):
    """A unit's main process, with the sums over all of the unit's processes."""

    executable: str
    venvs: list[str]  # of which venvs the main process has loaded libraries
    variables: list[str]  # names in its environment, none if it has overwritten that
    secrets: list[str]  # names of the secrets whose values are in any process's environment
    pids: list[int]


class InVenv(NamedTuple):
    """The answers of Airflow's own Python."""

    options: dict[tuple[str, str], str | None]  # those in force, by section and name
    pods: dict[str, Any]  # the pairs in mergers.py, as Airflow merges them
    hidden: set[str]  # the inventory's variables whose values are secret, by their names


def python(host: Host, script: str, *arguments: str, interpreter: str = "/usr/bin/python3") -> Any:
    """Run a script of on_host/ on the host; returns its output, parsed."""
    words = shlex.join(["-c", (ON_HOST / f"{script}.py").read_text(), *arguments])
    return json.loads(host.check_output(f"cd / && {interpreter} {words}"))


def properties(host: Host, *units: str) -> dict[str, dict[str, str]]:
    """The properties of each unit, by the name asked for; a repeated one has lines."""
    blocks = host.check_output(f"systemctl show {' '.join(units)}").split("\n\n")
    return dict(zip(units, map(_pairs, blocks), strict=True))


def _pairs(block: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        pairs[name] = f"{pairs[name]}\n{value}" if name in pairs else value
    return pairs
