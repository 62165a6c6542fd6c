"""Commands of the plan that can run on any machine, run for real in a temporary directory."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tasks import layout
from tasks.airflow.secrets import FILES
from tasks.layout import KUBECONFIG, SECRETS, VENVS
from tests.unit import fake
from tests.unit.fake import Plan

NAMES = [*FILES, "admin-password"]

# Answers like kubectl, to what the deploy asks it for.
KUBECTL = """#!/bin/sh
case "$*" in
*go-template=*) printf 'server: "https://192.0.2.7:6443", certificate-authority-data: "Q0E="' ;;
*"get secret airflow-control-plane-token"*'{.data.token}') printf dG9rZW4= ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


def sh(script: str) -> subprocess.CompletedProcess[str]:
    """Run a command as pyinfra would."""
    return subprocess.run(["sh", "-c", script], text=True, capture_output=True, check=False)


def make_secrets(plan: Plan, folder: Path) -> None:
    """Run the operation that makes secrets, in another folder than on a host."""
    for command in plan.named("Make the secrets").commands:
        done = sh(command.replace(SECRETS, str(folder)))
        assert done.returncode == 0, done.stderr


def contents(folder: Path) -> dict[str, str]:
    """The text of all files by name."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_made_for_the_services_to_read(plan: Plan, tmp_path: Path) -> None:
    make_secrets(plan, tmp_path)
    made = contents(tmp_path)
    assert made.keys() == set(NAMES)
    for name, (variable, _) in FILES.items():
        key, _, value = made[name].removesuffix("\n").partition("=")
        assert key == variable and len(value) >= 32 and "\n" not in value
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    # https://github.com/fernet/spec: 32 bytes in base64url.
    assert len(base64.urlsafe_b64decode(made["fernet-key"].partition("=")[2].strip())) == 32


def test_secrets_differ_from_host_to_host(plan: Plan, tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        make_secrets(plan, folder)
    assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "b").values())


@pytest.mark.parametrize("lost", NAMES)
def test_a_lost_secret_is_made_anew_and_the_others_are_kept(
    plan: Plan, tmp_path: Path, lost: str
) -> None:
    make_secrets(plan, tmp_path)
    before = contents(tmp_path)
    (tmp_path / lost).unlink()
    make_secrets(plan, tmp_path)
    after = contents(tmp_path)
    assert after.pop(lost) != before.pop(lost)
    assert after == before


def test_the_kubeconfig_is_one(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    plan = fake.plan(fake.settings({"kubernetes_namespace": "team-a"}))
    (command,) = plan.named("Write the kubeconfig of airflow-control-plane").commands
    written = tmp_path / "kubeconfig"
    # The host has a group airflow; this machine need not.
    command = command.replace(KUBECONFIG, str(written)).replace("chown root:airflow", ": chown")
    done = sh(command.replace("/usr/local/bin/kubectl", str(kubectl)))
    assert (done.returncode, done.stderr) == (0, "")
    config = yaml.safe_load(written.read_text())
    assert config["clusters"][0]["cluster"] == {
        "server": "https://192.0.2.7:6443",
        "certificate-authority-data": "Q0E=",
    }
    assert config["users"][0]["user"] == {"token": "token"}
    (context,) = (c for c in config["contexts"] if c["name"] == config["current-context"])
    assert context["context"] == {
        "cluster": config["clusters"][0]["name"],
        "user": config["users"][0]["name"],
        "namespace": "team-a",
    }
    assert written.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("kept", "others"), [(1, 1), (2, 1), (3, 2), (9, 3)])
def test_old_venvs_go_with_half_ones_but_one_to_go_back_to_stays(
    kept: int, others: int, tmp_path: Path
) -> None:
    settings = fake.settings({"retention_worker_images": kept})
    plan, current = fake.plan(settings), settings.venv.rpartition("/")[2]
    ages = ["previous", "older", "oldest"]
    for age, name in enumerate([*ages, current]):  # as after the way back: the current is no child
        tmp_path.joinpath(name, "bin").mkdir(parents=True)
        complete = tmp_path / name / ".complete"
        complete.touch()
        os.utime(complete, (0, 1000 - age))
    tmp_path.joinpath("half", "bin").mkdir(parents=True)
    (command,) = plan.named("Remove old venvs").commands
    (question,) = {fact for fact in plan.facts if f"surplus=$(ls -d {VENVS}" in fact}
    assert sh(question.replace(VENVS, str(tmp_path))).stdout == ""
    assert sh(command.replace(VENVS, str(tmp_path))).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {current, *ages[:others]}
    assert sh(question.replace(VENVS, str(tmp_path))).stdout == "yes\n"


def test_lists_of_what_is_in_an_image_are_kept_for_the_youngest(tmp_path: Path) -> None:
    plan = fake.plan(fake.settings({"retention_worker_images": 2}))
    (script,) = plan.named("Build the worker image").commands
    (command,) = (line for line in script.splitlines() if line.startswith("ls -dt "))
    for age, name in enumerate(["b-youngest", "c-young", "a-old"]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 1000 - age))
    assert sh(command.replace(layout.IMAGES, str(tmp_path))).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"b-youngest", "c-young"}
