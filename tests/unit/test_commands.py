"""Commands of the plan that can run on any machine, run for real in a temporary directory."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest

from tasks.airflow.secrets import FILES
from tasks.layout import SECRETS, VENVS
from tests.unit import fake
from tests.unit.fake import Plan

NAMES = [*FILES, "admin-password"]


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
