"""The processes of the given units, their files and variables, all listeners, and memory."""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
from typing import Any

UNITS = sys.argv[1:]
SECRETS = "/etc/airflow/secrets"


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # the process has ended
        return b""


def output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def secret_values() -> dict[str, bytes]:
    found = {}
    for name in os.listdir(SECRETS):
        text = read(f"{SECRETS}/{name}")
        variable = re.match(rb"[A-Z_]+=(\S+)", text)  # of several, the first one is the secret
        found[name] = variable[1] if variable else text.strip()
    # A folder has none, and nothing is in every environment.
    return {name: value for name, value in found.items() if value}


def group_of(pid: int) -> str:
    """The unit that a process belongs to, or «pods»; empty for one of neither."""
    text = read(f"/proc/{pid}/cgroup").decode()
    if "kubepods" in text:
        return "pods"
    unit = re.search(r"/([^/\n]+\.(?:service|scope))(?:/.*)?$", text, re.MULTILINE)
    return unit[1] if unit else ""


def look(unit: str, pids: list[int], secrets: dict[str, bytes]) -> dict[str, Any]:
    main = f"/proc/{main_pids[unit]}"
    environments = b"\0".join(read(f"/proc/{pid}/environ") for pid in pids)
    return {
        "executable": os.readlink(f"{main}/exe"),
        "venvs": sorted(
            {m.decode() for m in re.findall(rb"/opt/airflow/venvs/[^/\n]+", read(f"{main}/maps"))}
        ),
        "variables": [
            name.decode()
            for name, equals, _ in (
                pair.partition(b"=") for pair in read(f"{main}/environ").split(b"\0")
            )
            if equals
        ],
        "secrets": sorted(name for name, value in secrets.items() if value in environments),
        "pids": pids,
    }


def memory(pid: int) -> int:
    """Bytes; shared memory is divided among its processes."""
    share = re.search(rb"^Pss: +(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE)
    return int(share[1]) * 1024 if share else 0


def listeners(groups: dict[int, str]) -> list[tuple[str, str, str]]:
    found = []
    # Those that systemd holds, by their addresses.
    sockets = output("systemctl", "list-sockets", "--no-legend").splitlines()
    units = {address: unit for address, unit, *_ in map(str.split, sockets)}
    for line in output("ss", "-Hlntup").splitlines():
        address, _, port = line.split()[4].rpartition(":")
        if unit := units.get(f"{address}:{port}"):
            found.append((unit, address, port))
            continue
        holder = re.search(r'\(\("([^"]*)",pid=(\d+)', line)
        program, group = (holder[1], groups.get(int(holder[2]), "")) if holder else ("", "")
        found.append((program if group in ("", "pods") else group, address, port))
    return found


groups = {pid: group_of(pid) for pid in map(int, (path[6:] for path in glob.glob("/proc/[0-9]*")))}
asked = output("systemctl", "show", "-P", "MainPID", *UNITS).split()
main_pids = dict(zip(UNITS, asked, strict=True))
secrets = secret_values()
members = {unit: [pid for pid, group in groups.items() if group == unit] for unit in UNITS}
used: dict[str, int] = {}
for pid, group in groups.items():
    name = read(f"/proc/{pid}/comm").decode().strip() if group == "pods" else group
    used[name] = used.get(name, 0) + memory(pid)
answer = {
    "units": {unit: look(unit, members[unit], secrets) for unit in UNITS},
    "listeners": listeners(groups),
    "memory": used,
}
print(json.dumps(answer))
