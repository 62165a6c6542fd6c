"""Run the deploy's own programs on this machine, with stand-ins for those of a host."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.host import host_values
from tests.unit import fake

# Stands in for kubectl and its cluster, of which each object is a file in the folder $CLUSTER. As
# kubectl does, it refuses -n for an object that names another namespace. It loads little, since it
# starts often.
KUBECTL = """#!/usr/bin/env -S python3 -BIS
import json, os, sys

cluster, words = os.environ["CLUSTER"], sys.argv[1:]
namespace = words[words.index("-n") + 1] if "-n" in words else "default"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
verb = next(word for word in words if word in ("get", "diff", "apply", "delete"))
found = []
with open(f"{cluster}/../verbs", "a") as verbs:
    print(verb, file=verbs)
for each in json.load(sys.stdin)["items"]:
    metadata = each["metadata"]
    if "-n" in words and metadata.setdefault("namespace", namespace) != namespace:
        sys.exit("the namespace from the provided object does not match the namespace")
    place = metadata.get("namespace", namespace)
    path = f"{cluster}/{each['kind']}.{place}.{metadata['name']}"
    there = None
    if os.path.exists(path):
        with open(path) as file:
            there = json.load(file)
    if verb in ("diff", "apply"):
        found += [path] if there != each else []
    elif there and "json" in words:
        # What the API adds, and what kubectl does unless the server applies.
        given = {"annotations": {}, **there["metadata"]}
        note = {APPLIED: json.dumps({**there, "metadata": given})}
        more = given["annotations"] | ({} if each["kind"] == "Secret" else note)
        found.append({**there, "metadata": {**given, "annotations": more, "uid": "some"}})
    elif there:
        found.append(f"{each['kind'].lower()}/{metadata['name']}")
    if verb == "apply":
        with open(path, "w") as file:
            json.dump(each, file)
        with open(f"{cluster}/../applied", "a") as applied:
            print(each["kind"], "--server-side" in words, file=applied)
    elif verb == "delete":
        if there:
            os.unlink(path)
if "json" in words:
    found = [json.dumps(found[0] if len(found) == 1 else {"kind": "List", "items": found})]
print("\\n".join(found))
sys.exit(1 if verb == "diff" and found else 0)
"""


class Host:
    """A folder that stands for a host: its values, and programs in place of those in PATH."""

    def __init__(self, folder: Path, given: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.touch()
        self.bin = folder / "bin"
        self.state = folder / "state"
        for each in (self.bin, self.state):
            each.mkdir()
        self.values = host_values.values(fake.settings(given))
        self.values |= {
            "STATE": str(self.state),
            "KUBECTL": f"{self.bin}/kubectl --context=here",
            "DEPLOY_LOCK": f"{folder}/locks/deploy",
        }

    def program(self, name: str, script: str = "") -> None:
        """Add a program, which records how it is called."""
        path = self.bin / name
        if not script.startswith("#!"):
            script = f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{script}\n'
        path.write_text(script)
        path.chmod(0o755)

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the deploy's programs."""
        with self.start(name, *arguments) as process:
            try:
                said, errors = process.communicate(timeout=60)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, said, errors)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start one of the deploy's programs."""
        values = self.folder / "host.env"
        text = "".join(f"{key}={shlex.quote(value)}\n" for key, value in self.values.items())
        # Another program may read it now.
        if not values.exists() or values.read_text() != text:
            values.write_text(text)
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "AIRFLOW_HOST_ENV": str(values),
            "CLUSTER": str(self.folder / "cluster"),
        }
        return subprocess.Popen(
            [fake.FILES / "usr/local/lib/airflow" / name, *arguments],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def check(self, name: str, *arguments: str) -> str:
        """Run a program's check; returns its sentence, or nothing if there is nothing to do."""
        done = self.run(name, "check", *arguments)
        assert done.stdout == "" and (done.returncode == 0) is (done.stderr == ""), done
        assert done.returncode in (0, 1) and len(done.stderr.splitlines()) < 2, done.stderr
        return done.stderr.strip()

    def apply(self, name: str, *arguments: str) -> str:
        """Run a program's apply; returns its error, or nothing if it succeeds."""
        done = self.run(name, "apply", *arguments)
        assert (done.returncode == 0) is (done.stderr == ""), done
        return done.stderr.strip()

    def called(self, name: str) -> list[list[str]]:
        """The arguments of each call of a program."""
        lines = map(str.split, self.calls.read_text().splitlines())
        return [words[1:] for words in lines if words[0] == name]

    def cluster(self) -> dict[str, Any]:
        """The objects that KUBECTL keeps, by kind, namespace and name."""
        found = sorted((self.folder / "cluster").iterdir())
        return {path.name: json.loads(path.read_text()) for path in found}


def owner() -> dict[str, str]:
    """The user of the tests may own the file."""
    return {"user": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
