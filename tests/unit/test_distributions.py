"""The releases of Debian and Ubuntu: what a deploy plans for each."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tasks.preflight.questions import QUESTIONS
from tasks.settings import RELEASES
from tasks.worker import image
from tests.unit import fake
from tests.unit.fake import Plan


def plan(codename: str) -> Plan:
    """The plan of a deploy on a bare host of this release."""
    return fake.plan(fake.settings(codename=codename))


@pytest.mark.parametrize("codename", RELEASES)
def test_a_host_gets_the_versions_of_its_release(codename: str) -> None:
    release = RELEASES[codename]
    planned = plan(codename)
    (packages,) = planned.named("Install Debian packages").commands
    assert re.findall(r"postgresql-\d+", packages) == [f"postgresql-{release.postgres}"]
    assert f"PGCLUSTER={release.postgres}/main\n" in planned.uploads["/etc/airflow/host.env"]
    (venv,) = planned.named("Install Airflow").commands
    assert f" /usr/bin/python{release.python} " in venv


@pytest.mark.parametrize(
    ("driver", "name", "releases"),
    [
        # https://packages.debian.org/trixie/docker.io only recommends the command docker.
        ("docker", "docker-cli", {"trixie"}),
        # https://packages.debian.org/trixie/netavark, https://packages.ubuntu.com/resolute/netavark
        ("podman", "nftables", {"trixie", "resolute"}),
    ],
)
def test_a_node_gets_the_parts_that_its_engine_only_recommends(
    driver: str, name: str, releases: set[str]
) -> None:
    given = {"minikube_driver": driver}
    planned = {
        codename: fake.plan(fake.settings(given, codename=codename))
        .named("Install Debian packages")
        .commands[0]
        for codename in RELEASES
    }
    assert {each for each, text in planned.items() if f" {name} " in text} == releases
    kept = fake.removal(given, keep_data=False).named("Keep the packages that others use").commands
    assert kept and all(f",{name}" in command for command in kept)


def test_no_two_releases_share_a_venv_or_an_image() -> None:
    every = [fake.settings(codename=each) for each in RELEASES]
    assert len({each.venv_key for each in every}) == len(RELEASES)
    assert len({image.reference(each) for each in every}) == len(RELEASES)


def test_a_release_is_named_as_its_system_names_it() -> None:
    for codename, release in RELEASES.items():
        number = r"\d\d\.04" if release.distribution == "ubuntu" else r"\d\d"
        assert re.fullmatch(number, release.number) and codename.islower()
    assert [each.name for each in RELEASES.values() if not each.is_tried] == [
        "Ubuntu 24.04",
        "Ubuntu 26.04",
    ]


DEB822 = """Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates noble-backports
Components: {components}
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""


@pytest.mark.parametrize(
    ("name", "text", "has"),
    [
        ("ubuntu.sources", DEB822.format(components="main universe restricted multiverse"), True),
        ("ubuntu.sources", DEB822.format(components="main restricted universe"), True),
        ("ubuntu.sources", DEB822.format(components="main restricted"), False),
        ("old.list", "deb http://archive.ubuntu.com/ubuntu noble main universe\n", True),
        ("old.list", "# deb http://archive.ubuntu.com/ubuntu noble main universe\n", False),
    ],
)
def test_the_component_with_most_packages_is_found(
    tmp_path: Path, name: str, text: str, has: bool
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / name).write_text(text)
    (function,) = re.findall(r"^has_universe\(\) \{.*?^\}", QUESTIONS.read_text(), re.M | re.S)
    here = function.replace("/etc/apt", str(tmp_path))
    apt = tmp_path / "apt-cache"
    for knows, expected in (("false", has), ("true", True)):
        apt.write_text(f"#!/bin/sh\n{knows}\n")
        apt.chmod(0o755)
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["sh", "-c", f"{here}\nhas_universe"], env=environment)
        assert (done.returncode == 0) is expected
