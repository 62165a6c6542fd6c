"""Where the values of Airflow's secrets can be found: kubectl's command, the namespaces.

Prints names of secrets and of places.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

KUBECTL, *NAMESPACES = sys.argv[1:]
SECRETS = "/etc/airflow/secrets"
CERTIFICATES = "/etc/airflow/tls/*.pem"
BIGGEST = 2 * 2**20  # bytes; what a leak would be in is smaller
NAMED_SECRET = re.compile("pass|secret|token|key|auth", re.IGNORECASE)
NEWEST = 2000  # task logs; a host may have kept years of them


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # a process that has ended, a file that was rotated
        return b""


def values() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in os.listdir(SECRETS):
        if name.endswith(".json"):
            found |= given(json.loads(read(f"{SECRETS}/{name}")), name)
            continue
        text = read(f"{SECRETS}/{name}")
        variable = re.match(rb"[A-Z_]+=(\S+)", text)  # of several, the first one is the secret
        found[name] = variable[1] if variable else text.strip()
    for path in glob.glob("/etc/airflow/kubeconfig*"):
        if token := re.search(rb'token: *"?([^"}\s]+)', read(path)):
            found[f"{os.path.basename(path)}'s token"] = token[1]
    for path in glob.glob(CERTIFICATES):
        if key := re.search(rb"PRIVATE KEY-----\n(\S+)", read(path)):
            found[f"{os.path.basename(path)}'s key"] = key[1]
    return found


def given(part: Any, name: str) -> dict[str, bytes]:
    """Values that the inventory gave, as far as their names say that they are secret."""
    found: dict[str, bytes] = {}
    for key, value in part.items() if isinstance(part, dict) else ():
        if isinstance(value, dict):
            found |= given(value, f"{name}: {key}")
        elif isinstance(value, str) and len(value) >= 12 and NAMED_SECRET.search(key):
            found[f"{name}: {key}"] = value.encode()
    return found


def small_files(*roots: str) -> Iterator[str]:
    for root in roots:
        for folder, _, names in os.walk(root):
            for path in (os.path.join(folder, name) for name in names):
                # What a link leads to is kept elsewhere.
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                if os.stat(path).st_size <= BIGGEST:
                    yield path


def but_not(paths: Iterable[str], *folders: str) -> Iterator[str]:
    return (path for path in paths if not path.startswith(folders))


def world_readable(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if os.stat(path).st_mode & stat.S_IROTH)


def output(*command: str) -> bytes:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def in_some_form(value: bytes, text: bytes) -> bool:
    """Also in JSON, in a URL, or in Base64, as the cluster keeps its secrets."""
    written = value.decode()
    forms = [value, json.dumps(written)[1:-1].encode(), quote(written, safe="").encode()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + value)
        # Without the characters that hold bits of what stands beside it.
        forms.append(encoded[-(-before * 8 // 6) : (before + len(value)) * 8 // 6])
    return any(form in text for form in forms)


def main() -> None:
    secrets = values()
    logs = sorted(small_files("/var/log/airflow"), key=os.path.getmtime)[-NEWEST:]
    open_folders = ("/etc", "/usr/local", "/run/airflow", "/var/lib/airflow", "/tmp", "/var/tmp")
    homes = ("/root", "/home/*", "/var/lib/postgresql", "/var/lib/airflow")
    histories = [path for home in homes for path in glob.glob(f"{home}/.*hist*")]
    listed = [
        output(*shlex.split(KUBECTL), "-n", namespace, "get", "pods,events", "-o", "json")
        for namespace in NAMESPACES
    ]
    texts = {
        "the files they are kept in": map(
            read,
            [
                path
                for kept in (f"{SECRETS}/*", "/etc/airflow/kubeconfig*", CERTIFICATES)
                for path in glob.glob(kept)
            ],
        ),
        "arguments of processes": map(read, glob.glob("/proc/[0-9]*/cmdline")),
        "properties of units": [output("systemctl", "show", "*")],
        "journal": [output("journalctl", "-q", "-b", "-n", "20000", "-o", "cat")],
        "world-readable files": map(read, world_readable(small_files(*open_folders))),
        # Of units too, which have folders of their own in there.
        "temporary files": map(read, small_files("/tmp", "/var/tmp", "/dev/shm")),
        "logs of the host": map(
            read, but_not(small_files("/var/log"), "/var/log/journal", "/var/log/airflow")
        ),
        "histories of shells": [*map(str.encode, homes), *map(read, histories)],
        "pods and events": listed,
        "configuration": map(read, ["/etc/airflow/airflow.cfg", "/etc/airflow/pod_template.yaml"]),
        "what pods mount": map(read, [*small_files("/opt/airflow/dags"), *logs]),
    }
    found = {}
    for place, contents in texts.items():
        text = b"\0".join(contents)
        found[place] = {
            "bytes": len(text),
            "secrets": sorted(name for name, value in secrets.items() if in_some_form(value, text)),
        }
    lengths = {name: len(value) for name, value in secrets.items()}
    print(json.dumps({"lengths": lengths, "places": found}))


main()
