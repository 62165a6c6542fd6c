"""containerd's configuration: what minikube makes of each version of its format.

The files in tests/unit/containerd are the output of `containerd config default` of Debian's
packages: version 2 of the format from 1.6 and 1.7, version 3 from 2.1.
"""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tasks.layout import CONTAINERD_CONFIG, CONTAINERD_DEFAULTS
from tasks.worker.registry import CONTAINERD_HOSTS
from tests.unit import fake, programs
from tests.unit.fake import FILES

OUR_FILE = FILES / CONTAINERD_DEFAULTS.lstrip("/")
DEFAULTS = Path(__file__).with_name("containerd")
# In Debian's package of each release, also in that of containerd 2.
DEBIANS_OWN = """version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"""
PAUSE = "registry.k8s.io/pause:3.10.1"
# The expressions that minikube 1.38.1 gives to sed for Kubernetes 1.22 and newer:
# https://github.com/kubernetes/minikube/blob/v1.38.1/pkg/minikube/cruntime/containerd.go
MINIKUBES = (
    rf's|^( *)sandbox_image = .*$|\1sandbox_image = "{PAUSE}"|',
    r"s|^( *)restrict_oom_score_adj = .*$|\1restrict_oom_score_adj = false|",
    r"s|^( *)SystemdCgroup = .*$|\1SystemdCgroup = true|g",
    r"/systemd_cgroup/d",
    r's|^( *)conf_dir = .*$|\1conf_dir = "/etc/cni/net.d"|g',
    r"/^ *enable_unprivileged_ports = .*/d",
    r's|^( *)\[plugins."io.containerd.grpc.v1.cri"\]|&\n\1  enable_unprivileged_ports = true|',
)


def edited(text: str, *expressions: str) -> str:
    """The text after sed."""
    given = [word for each in expressions for word in ("-e", each)]
    return subprocess.check_output(["sed", "-r", *given], input=text, text=True)


def plugin(text: str) -> dict[str, Any]:
    """The options of Kubernetes' plugin, in version 2."""
    found: dict[str, Any] = tomllib.loads(text)["plugins"]["io.containerd.grpc.v1.cri"]
    return found


def given_by_minikube(cri: dict[str, Any]) -> None:
    """All that minikube wants is in the plugin's options."""
    assert cri["sandbox_image"] == PAUSE
    assert cri["enable_unprivileged_ports"] is True
    assert cri["restrict_oom_score_adj"] is False
    assert cri["cni"]["conf_dir"] == "/etc/cni/net.d"
    assert cri["cni"]["bin_dir"] in ("/opt/cni/bin", "/usr/lib/cni")  # one is a link to the other
    runc = cri["containerd"]["runtimes"]["runc"]
    assert runc["runtime_type"] == "io.containerd.runc.v2"
    assert runc["options"]["SystemdCgroup"] is True


@pytest.mark.parametrize("path", [OUR_FILE, *DEFAULTS.glob("1.*")], ids=lambda path: path.name)
def test_minikube_finds_all_keys_in_version_2(path: Path) -> None:
    before = path.read_text()
    assert tomllib.loads(before)["version"] == 2
    after = edited(before, *MINIKUBES)
    given_by_minikube(plugin(after))
    assert edited(after, *MINIKUBES) == after


def test_minikube_does_not_find_the_pause_image_in_version_3() -> None:
    """The reason for a file of our own: pods of an offline host would want another image."""
    after = tomllib.loads(edited((DEFAULTS / "2.1.9.toml").read_text(), *MINIKUBES))
    assert after["version"] == 3
    images = after["plugins"]["io.containerd.cri.v1.images"]
    assert images["pinned_images"]["sandbox"] not in (PAUSE, "")


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        (OUR_FILE.read_text(), True),
        (edited(OUR_FILE.read_text(), *MINIKUBES), True),
        # Of hosts that were deployed before.
        *((path.read_text(), True) for path in DEFAULTS.glob("1.*")),
        (DEBIANS_OWN, False),
        ((DEFAULTS / "2.1.9.toml").read_text(), False),
        ((DEFAULTS / "1.7.24.toml").read_text().replace("version = 2", "version = 3"), False),
        ("", False),
    ],
)
def test_only_a_file_that_minikube_can_edit_stays(tmp_path: Path, text: str, stays: bool) -> None:
    config, calls = tmp_path / "containerd/config.toml", tmp_path / "calls"
    (command,) = fake.plan(fake.settings()).named("Write containerd's configuration").commands
    assert command.split()[1:] == ["apply", "config", CONTAINERD_CONFIG, CONTAINERD_DEFAULTS]
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{calls}\n')
    (tmp_path / "systemctl").chmod(0o755)
    values = programs.host_env(tmp_path, fake.settings())

    def run(verb: str) -> int:
        """Ask or apply the program; returns its exit code."""
        return subprocess.run(
            [programs.LIB / "containerd.sh", verb, "config", config, OUR_FILE],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **values},
        ).returncode

    assert run("check") == 1  # there is no file
    config.parent.mkdir()
    config.write_text(text)
    assert (run("check") == 0) is stays and not calls.exists()
    assert run("apply") == run("check") == 0
    assert config.read_text() == OUR_FILE.read_text()
    assert calls.read_text() == "restart containerd\n"


def test_containerd_looks_for_registries_authorities_from_the_start() -> None:
    text = OUR_FILE.read_text()
    assert plugin(text)["registry"]["config_path"] == CONTAINERD_HOSTS
    plan = fake.plan(fake.settings(fake.VARIANTS["registry"]))
    named = plan.named("Let containerd look for registries' CAs").commands
    expression = named[0].split("'")[1]
    for path in DEFAULTS.glob("1.*"):
        older = plugin(edited(path.read_text(), expression))
        assert older["registry"]["config_path"] == CONTAINERD_HOSTS
