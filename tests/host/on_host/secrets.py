"""Find the values of secrets in the places that the argument names, as JSON.

Prints names of secrets and of places.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

WANTED: dict[str, Any] = json.loads(sys.argv[1])
KEPT: dict[str, tuple[str, str]] = WANTED["kept"]  # kind and file of each of the host's own
BIGGEST = 2 * 2**20  # bytes; a file with a leak would be smaller
NEWEST = 2000  # task logs; a host may have kept years of them
PART, OVERLAP = 2**24, 2**14  # bytes; no secret's line is as long as the second


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # a process that has ended, a file that was rotated
        return b""


def values() -> dict[str, str]:
    """The values to look for, by their names in WANTED."""
    found = {name: TAKEN_FROM[kind](read(path).decode()) for name, (kind, path) in KEPT.items()}
    objects = json.loads(read("/etc/airflow/secrets/objects.json") or "{}")
    for name, path in WANTED["objects"].items():
        found[name] = inside(objects, path)
    return {name: telling(value) for name, value in found.items()}


def secret(text: str) -> str:
    variable = re.match(r"[A-Z_]+=(\S+)", text)  # of several, the first one is the secret
    return variable[1] if variable else text.strip()


def token(text: str) -> str:
    found = re.search(r'"token": *"([^"]+)', text)
    return found[1] if found else ""


def key(text: str) -> str:
    found = re.search(r"PRIVATE KEY-----\n(.+?)\n-----END", text, re.DOTALL)
    return found[1] if found else ""


def login(text: str) -> str:
    (registry,) = json.loads(text)["auths"].values()
    return base64.b64decode(registry["auth"]).decode().partition(":")[2]


# How a secret is taken from the file that it is kept in.
TAKEN_FROM = {"secret": secret, "token": token, "key": key, "login": login}


def inside(part: Any, path: list[str]) -> str:
    for key in path:
        part = part[int(key) if isinstance(part, list) else key]
    return str(part)


def telling(value: str) -> str:
    """The line in the middle: the first ones of a key's file are the same for many keys."""
    lines = [line for line in value.splitlines() if line and "-----" not in line]
    return lines[len(lines) // 2]


def files(*roots: str) -> Iterator[str]:
    for root in roots:
        for folder, _, names in os.walk(root):
            for path in (os.path.join(folder, name) for name in names):
                # The target of a link is elsewhere.
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


def parts(*command: str) -> Iterator[bytes]:
    """The output of a command, in parts that overlap: a host may have gigabytes of a journal."""
    kept = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        while part := process.stdout.read(PART):
            yield kept + part
            kept = part[-OVERLAP:]
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)


def forms(value: str) -> list[bytes]:
    """Also in JSON, in a URL, or in Base64, as the cluster keeps its secrets."""
    raw = value.encode()
    found = [raw, json.dumps(value)[1:-1].encode(), quote(value, safe="").encode()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        # Without the characters that hold bits of their neighbours.
        found.append(encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6])
    return [*dict.fromkeys(found)]


def main() -> None:
    kubectl, histories = WANTED["kubectl"], WANTED["histories"]
    logs = sorted(files("/var/log/airflow"), key=os.path.getmtime)[-NEWEST:]
    open_folders = ("/etc", "/usr/local", "/run/airflow", "/tmp", "/var/tmp")
    homes = ("/var/lib/airflow", "/var/lib/airflow-dags", "/opt/airflow/image")
    kept = {path for _, path in KEPT.values()} | {"/etc/airflow/secrets/objects.json"}
    # A folder's name is a text, too: it shows that the folder was looked into.
    temporary = ("/tmp", "/var/tmp", "/dev/shm")
    places: dict[str, Iterable[bytes]] = {
        "the files they are kept in": map(read, kept),
        "arguments of processes": map(read, glob.glob("/proc/[0-9]*/cmdline")),
        "properties of units": [output("systemctl", "show", "*")],
        "journal": parts("journalctl", "-q", "-b", "-o", "cat"),
        "world-readable files": map(read, world_readable(files(*open_folders, *homes))),
        # Of units too, which have folders of their own in there.
        "temporary files": [
            *(folder.encode() for root in temporary for folder, _, _ in os.walk(root)),
            *map(read, files(*temporary)),
        ],
        "logs of the host": map(
            read, but_not(files("/var/log"), "/var/log/journal", "/var/log/airflow")
        ),
        "histories of shells": map(read, histories),
        "pods and events": [
            output(*kubectl, "-n", each, "get", "pods,events,configmaps", "-o", "json")
            for each in WANTED["namespaces"]
        ],
        "configuration": map(read, ["/etc/airflow/airflow.cfg", "/etc/airflow/pod_template.yaml"]),
        "folders that pods mount": map(read, [*files("/opt/airflow/dags"), *logs]),
    }
    secrets = values()
    searched = {name: forms(value) for name, value in secrets.items()}
    found = {}
    for place, contents in places.items():
        count, names = 0, set()
        for text in contents:
            count += bool(text)
            names |= {name for name, each in searched.items() if any(form in text for form in each)}
        found[place] = {"texts": count, "secrets": sorted(names)}
    lengths = {name: len(value) for name, value in secrets.items()}
    print(json.dumps({"lengths": lengths, "places": found}))


main()
