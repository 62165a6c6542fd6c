"""What the processes of the given units are made of and hold; a second list has the listeners."""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
from typing import Any

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
    return found


def pids_of(unit: str) -> list[int]:
    line = re.compile(rf"/{re.escape(unit)}(/.*)?$".encode(), re.MULTILINE)
    paths = glob.glob("/proc/[0-9]*/cgroup")
    return [int(path.split("/")[2]) for path in paths if line.search(read(path))]


def look(unit: str) -> dict[str, Any]:
    pids = pids_of(unit)
    main = f"/proc/{output('systemctl', 'show', '-P', 'MainPID', unit).strip()}"
    environments = b"\0".join(read(f"/proc/{pid}/environ") for pid in pids)
    shares = [re.search(rb"^Pss: +(\d+)", read(f"/proc/{p}/smaps_rollup"), re.M) for p in pids]
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
        "secrets": sorted(n for n, value in secret_values().items() if value in environments),
        "memory": sum(int(share[1]) * 1024 for share in shares if share),
        "pids": pids,
    }


def listeners() -> list[tuple[str, int, int, str]]:
    found = []
    for line in output("ss", "-Hltnp").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        holder = re.search(r'\(\("([^"]*)",pid=(\d+)', line)
        name, pid = (holder[1], int(holder[2])) if holder else ("", 0)
        found.append((address, int(port), pid, name))
    return found


units = {unit: look(unit) for unit in sys.argv[1:]}
print(json.dumps({"units": units, "listeners": listeners()}))
