"""Where the values of Airflow's secrets can be found. Prints names of secrets and of places."""

from __future__ import annotations

import glob
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator

SECRETS = "/etc/airflow/secrets"
BIGGEST = 2 * 2**20  # bytes; what a leak would be in is smaller
NEWEST = 2000  # task logs; a host may have kept years of them


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # a process that has ended, a file that was rotated
        return b""


def values() -> dict[str, bytes]:
    found = {
        name: read(f"{SECRETS}/{name}").strip().partition(b"=")[2]
        or read(f"{SECRETS}/{name}").strip()
        for name in os.listdir(SECRETS)
    }
    token = re.search(rb'token: *"?([^"}\s]+)', read("/etc/airflow/kubeconfig"))
    return found | ({"kubeconfig's token": token[1]} if token else {})


def small_files(*roots: str) -> Iterator[str]:
    for root in roots:
        for folder, _, names in os.walk(root):
            for path in (os.path.join(folder, name) for name in names):
                if os.path.isfile(path) and os.stat(path).st_size <= BIGGEST:
                    yield path


def world_readable(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if os.stat(path).st_mode & stat.S_IROTH)


def output(*command: str) -> bytes:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def main() -> None:
    secrets = values()
    logs = sorted(small_files("/var/log/airflow"), key=os.path.getmtime)[-NEWEST:]
    open_folders = ("/etc", "/usr/local", "/run/airflow", "/var/lib/airflow", "/tmp", "/var/tmp")
    texts = {
        "the files they are kept in": map(
            read, [*glob.glob(f"{SECRETS}/*"), "/etc/airflow/kubeconfig"]
        ),
        "arguments of processes": map(read, glob.glob("/proc/[0-9]*/cmdline")),
        "properties of units": [output("systemctl", "show", "*")],
        "journal": [output("journalctl", "-q", "-b", "-n", "20000", "-o", "cat")],
        "world-readable files": map(read, world_readable(small_files(*open_folders))),
        "configuration": map(read, ["/etc/airflow/airflow.cfg", "/etc/airflow/pod_template.yaml"]),
        "what pods mount": map(read, [*small_files("/opt/airflow/dags"), *logs]),
    }
    found = {}
    for place, contents in texts.items():
        text = b"\0".join(contents)
        found[place] = {
            "bytes": len(text),
            "secrets": sorted(name for name, value in secrets.items() if value in text),
        }
    lengths = {name: len(value) for name, value in secrets.items()}
    print(json.dumps({"lengths": lengths, "places": found}))


main()
