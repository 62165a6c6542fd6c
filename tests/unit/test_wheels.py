"""The locked Python packages are wheels for each release and architecture, with their checksums.

A lock file has no names of files, but uv.lock, which two of them are exported from, has.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from tasks.layout import ROOT
from tasks.settings import ARCHITECTURES, RELEASES
from tests.unit.fake import DEFAULTS, FILES

PROCESSORS = {"amd64": "x86_64", "arm64": "aarch64"}  # as Python names them
GLIBC = 36  # the minor version of Debian 12's, the oldest
LOCKED = re.compile(
    r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)(?: ; ([^\\\n]+?))? \\\n((?:    .*\n)+)", re.M
)

PACKAGES: dict[tuple[str, str], dict[str, Any]] = {
    (each["name"], each["version"]): each
    for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    if "version" in each
}


def tags(python: str, architecture: str) -> set[Tag]:
    """All kinds of wheels that a host can install."""
    major, minor = map(int, python.split("."))
    processor = PROCESSORS[architecture]
    platforms = [f"manylinux_2_{glibc}_{processor}" for glibc in range(GLIBC, 16, -1)]
    platforms += [f"manylinux2014_{processor}", f"linux_{processor}"]
    version = (major, minor)
    own = cpython_tags(version, platforms=platforms)
    return {*own, *compatible_tags(version, f"cp{major}{minor}", platforms)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("python", sorted({each.python for each in RELEASES.values()}))
@pytest.mark.parametrize("lock", [f"{DEFAULTS.airflow.version}.txt", "sbom.txt"])
def test_each_locked_package_has_a_wheel(lock: str, python: str, architecture: str) -> None:
    fitting = tags(python, architecture)
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.5",
        "platform_machine": PROCESSORS[architecture],
        "sys_platform": "linux",
    }
    text = (FILES / "opt/airflow/requirements" / lock).read_text()
    lines = LOCKED.findall(text)
    assert lines and LOCKED.sub("", text) == ""
    without = set()
    for name, version, marker, hashes in lines:
        if marker and not Marker(marker).evaluate(machine):
            continue
        wheels = {
            each["hash"]
            for each in PACKAGES[name, version]["wheels"]
            if fitting & parse_wheel_filename(each["url"].rpartition("/")[2])[3]
        }
        if not any(f"--hash={each} " in f"{hashes} ".replace("\n", " ") for each in wheels):
            without.add(f"{name}=={version}")
    assert without == set()
