"""Find the values of secrets in the places that the argument names, as JSON.

Prints names of secrets, of places, and of files among the secrets whose values are not known. The
name of a secret is the path of its file, and which one of the file it is if there may be several.
"""

from __future__ import annotations

import base64
import fnmatch
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
KINDS: dict[str, str] = WANTED["kinds"]  # by paths, or patterns of paths
BIGGEST = 2 * 2**20  # bytes; a file with a leak would be smaller
NEWEST = 2000  # task logs; a host may have kept years of them
PART, OVERLAP = 2**24, 2**14  # bytes; no secret's line is as long as the second


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # a process that has ended, a file that was rotated
        return b""


def kept() -> dict[str, str]:
    """The kind of each file that is kept; none if it is unknown."""
    found = [path for folder in WANTED["folders"] for path in below(folder)]
    found += [path for pattern in KINDS for path in glob.glob(pattern) if os.path.isfile(path)]
    return {path: kind(path) for path in found}


def below(folder: str) -> list[str]:
    return [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names]


def kind(path: str) -> str:
    return next((KINDS[each] for each in KINDS if fnmatch.fnmatchcase(settled(path), each)), "")


def settled(path: str) -> str:
    """The path of a file whose coming content this is, as a run may leave it that was killed."""
    return re.sub(r"([.](new|next))+(?=/|$)", "", path)


def values(kinds: dict[str, str]) -> dict[str, str]:
    """The values to look for, by their names."""
    found: dict[str, str] = {}
    for path, each in kinds.items():
        for which, value in taken_from(path, each).items():
            if f"{settled(path)} {which}".strip() not in WANTED["left_out"]:
                found[f"{path} {which}".strip()] = value
    objects = json.loads(read("/etc/airflow/secrets/objects.json") or "{}")
    for name, path in WANTED["objects"].items():
        found[name] = inside(objects, path)
    return {name: telling(value) for name, value in found.items()}


def taken_from(path: str, kind: str) -> dict[str, str]:
    try:
        return {which: value for which, value in TAKE[kind](read(path).decode()) if value}
    # A file of an unknown kind, or half of one, of a run that was killed.
    except (LookupError, ValueError):
        return {}


# The values of a file, each with the words that tell it from the others.
Named = Iterable[tuple[str, str]]


def secret(text: str) -> Named:
    variable = re.match(r"[A-Z_]+=(\S+)", text)  # of several, the first one is the secret
    # While the fernet key changes there are two.
    first, *others = variable[1].split(",") if variable else [text.strip()]
    return [("", first), *((f"{number}", each) for number, each in enumerate(others, 2))]


def token(text: str) -> Named:
    return [("", found) for found in re.findall(r'"token": *"([^"]+)', text)[:1]]


def key(text: str) -> Named:
    found = re.search(r"PRIVATE KEY-----\n(.+?)\n-----END", text, re.DOTALL)
    return [("", found[1])] if found else []


def registry(text: str) -> Named:
    (login,) = json.loads(text)["auths"].values()
    return [("", base64.b64decode(login["auth"]).decode().partition(":")[2])]


def users(text: str) -> Named:
    return [(name, user["password"] or "") for name, user in json.loads(text)["users"].items()]


def netrc(text: str) -> Named:
    return re.findall(r"(?m)^machine (\S+) login \S+ password (\S+)$", text)


def jwks(text: str) -> Named:
    for each in json.loads(text)["keys"]:
        yield each["kid"], base64.urlsafe_b64decode(each["k"] + "==").decode()


def libpq(text: str) -> Named:
    password = re.search(r"(?m)^\*:\*:\*:[^:]+:(.+)$", text)
    yield "password", re.sub(r"\\(.)", r"\1", password[1]) if password else ""
    yield from (("key", value) for _, value in key(text))


# How the values are taken from a file of each kind.
TAKE = {each.__name__: each for each in (secret, token, key, registry, users, netrc, jwks, libpq)}


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
    """Also in JSON, in a URL, for libpq, or in Base64, as the cluster keeps its secrets."""
    raw = value.encode()
    found = [raw, json.dumps(value)[1:-1].encode(), quote(value, safe="").encode()]
    found.append(raw.replace(b"\\", b"\\\\").replace(b":", b"\\:"))
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        # Without the characters that hold bits of their neighbours.
        inner = encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        found += [inner, inner.translate(bytes.maketrans(b"+/", b"-_"))]
    return [*dict.fromkeys(found)]


def main() -> None:
    kubectl, histories = WANTED["kubectl"], WANTED["histories"]
    logs = sorted(files("/var/log/airflow"), key=os.path.getmtime)[-NEWEST:]
    open_folders = ("/etc", "/usr/local", "/run/airflow", "/tmp", "/var/tmp")
    homes = ("/var/lib/airflow", "/var/lib/airflow-dags", "/opt/airflow/image")
    kinds = kept()
    # A folder's name is a text, too: it shows that the folder was looked into.
    temporary = ("/tmp", "/var/tmp", "/dev/shm")
    places: dict[str, Iterable[bytes]] = {
        "the files they are kept in": map(read, kinds),
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
    secrets = values(kinds)
    searched = {name: forms(value) for name, value in secrets.items()}
    found = {}
    for place, contents in places.items():
        count, names = 0, set()
        for text in contents:
            count += bool(text)
            names |= {name for name, each in searched.items() if any(form in text for form in each)}
        found[place] = {"texts": count, "secrets": sorted(names)}
    lengths = {name: len(value) for name, value in secrets.items()}
    unknown = sorted(path for path, each in kinds.items() if not each)
    print(json.dumps({"lengths": lengths, "places": found, "unknown": unknown}))


main()
