"""What the tests of a host share: the types of what is read, and running a script over there."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from testinfra.host import Host

from tasks.services import SERVICES

__all__ = [
    "MAX_EXPOSURE",
    "Attributes",
    "Host",
    "Listener",
    "Process",
    "complaints",
    "each_unit",
    "properties",
    "python",
]

ON_HOST = Path(__file__).parent / "on_host"

# Exposure as systemd computes it, times 10: from 0 to 100. Services without a sandbox have 92.
MAX_EXPOSURE = 15

each_unit = pytest.mark.parametrize("unit", [service.unit for service in SERVICES])


class Attributes(NamedTuple):
    """Who may do what with a file."""

    owner: str
    group: str
    mode: str


class Listener(NamedTuple):
    """A TCP socket that waits for connections."""

    address: str
    port: int
    pid: int
    process: str


class Process(NamedTuple):
    """A unit's main process, with the sums over all of the unit's processes."""

    executable: str
    venvs: list[str]  # of which venvs the main process has loaded libraries
    variables: list[str]  # names in its environment, none if it has overwritten that
    secrets: list[str]  # names of the secrets whose values are in any process's environment
    memory: int  # bytes; what processes share is counted once
    pids: list[int]


def python(
    host: Host, script: str, *arguments: str, interpreter: str = "/usr/bin/python3", user: str = ""
) -> Any:
    """Run a script of on_host/ on the host, as root if no user is given; what it prints, parsed."""
    words = [interpreter, "-c", (ON_HOST / f"{script}.py").read_text(), *arguments]
    if user:
        words = ["runuser", "-u", user, "--", *words]
    return json.loads(host.check_output(f"cd / && {shlex.join(words)}"))


def properties(host: Host, *units: str) -> dict[str, dict[str, str]]:
    """What systemd says of each unit, by the name asked for; a repeated property has lines."""
    blocks = host.check_output(f"systemctl show {' '.join(units)}").split("\n\n")
    return dict(zip(units, map(_pairs, blocks), strict=True))


def complaints(host: Host, unit: str) -> list[str]:
    """What systemd has to say against a unit; of the units around it, it may say more."""
    said = host.run(f"systemd-analyze verify {unit} 2>&1").stdout.splitlines()
    return [line for line in said if unit in line]


def _pairs(block: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        pairs[name] = f"{pairs[name]}\n{value}" if name in pairs else value
    return pairs
