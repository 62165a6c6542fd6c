"""The sources that say which version is the newest: web servers, uv and Go."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.pins.pin import NotReached, Refused

# Addresses, which tests replace.
AT = {
    "kubernetes": "https://dl.k8s.io/release",
    "schedule": "https://raw.githubusercontent.com/kubernetes/website/main/data/releases/schedule.yaml",
    "minikube": "https://storage.googleapis.com/minikube",
    "github": "https://github.com",
    "github_api": "https://api.github.com",
}
SECONDS = 20.0


def text(url: str) -> str:
    """The content of a URL; raises NotReached if the server does not give it."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotReached(f"{url}: {error}") from error
    return content.decode()


def uv(folder: Path, *words: str, given: str = "") -> str:
    """The output of uv in a folder.

    Raises Refused if the versions do not go together, and NotReached if the index is away.
    """
    program = os.environ.get("UV") or shutil.which("uv")
    if program is None:
        raise NotReached("the index of Python packages: uv is missing")
    done = subprocess.run(
        [program, *words], cwd=folder, input=given, text=True, capture_output=True
    )
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.split())
    if "No solution found" in said:
        reason = re.search(r"(?<=Because ).+?(?=, we can conclude|\. |$)", said)
        raise Refused(reason[0] if reason else said)
    raise NotReached(f"the index of Python packages: {said[-300:]}")


def newest_packages(names: list[str], python: str) -> dict[str, str]:
    """The newest releases of Python packages, whatever others ask for."""
    given = "".join(f"{name}\n" for name in names)
    words = ("--quiet", "--no-deps", "--no-header", "--no-annotate", "--python-version", python)
    lines = uv(Path("/"), "pip", "compile", *words, "-", given=given).splitlines()
    return dict(line.split("==") for line in lines)


def go(folder: Path, *words: str) -> str:
    """The output of Go in a folder; raises Refused if it fails."""
    try:
        done = subprocess.run(["go", *words], cwd=folder, text=True, capture_output=True)
    except FileNotFoundError as error:
        raise NotReached("the Go module proxy: Go is missing") from error
    if done.returncode:
        end = " ".join(done.stderr.split())[-300:]
        raise Refused(f"go {' '.join(words)}: {end}")
    return done.stdout


def go_module(name: str, version: str) -> Path:
    """The folder of a Go module's source, which the module proxy has."""
    return Path(_ask_go("mod", "download", "-json", f"{name}@{version}")["Dir"])


def newest_go_module(name: str) -> str:
    """The newest version of a Go module."""
    return str(_ask_go("list", "-m", "-json", f"{name}@latest")["Version"])


def _ask_go(*words: str) -> dict[str, Any]:
    try:
        # In a folder without a module.
        found: dict[str, Any] = json.loads(go(Path("/"), *words))
    except Refused as error:
        raise NotReached(f"the Go module proxy: {error}") from error
    return found
