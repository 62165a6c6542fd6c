"""Programs that can run on any machine, run for real in a temporary directory."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest

from tasks import layout
from tests.unit import fake, programs

VARIABLES = {
    "fernet-key": "AIRFLOW__CORE__FERNET_KEY",
    "jwt-secret": "AIRFLOW__API_AUTH__JWT_SECRET",
    "api-secret-key": "AIRFLOW__API__SECRET_KEY",
}
NAMES = [*VARIABLES, "admin-password", "smoke-test-password"]


def run(folder: Path, program: str, *words: str, **values: str | Path) -> int:
    """Run a program of the deploy with these values of a host; returns its exit code."""
    environment = programs.host_env(folder, fake.settings(), values)
    command = [str(programs.LIB / program), *words]
    return subprocess.run(command, env=os.environ | environment, check=False).returncode


def make_secrets(folder: Path, tmp: Path) -> None:
    """Run the program that makes secrets, in another folder than on a host."""
    assert run(tmp, "secrets.sh", "check", SECRETS=folder) == 1
    assert run(tmp, "secrets.sh", "apply", SECRETS=folder) == 0
    assert run(tmp, "secrets.sh", "check", SECRETS=folder) == 0


def contents(folder: Path) -> dict[str, str]:
    """The text of all files by name."""
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for secrets."""
    path = tmp_path / "secrets"
    path.mkdir()
    return path


def test_secrets_are_made_for_the_services_to_read(folder: Path, tmp_path: Path) -> None:
    make_secrets(folder, tmp_path)
    made = contents(folder)
    assert made.keys() == set(NAMES)
    for name, variable in VARIABLES.items():
        key, _, value = made[name].removesuffix("\n").partition("=")
        assert key == variable and len(value) >= 32 and "\n" not in value
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    # https://github.com/fernet/spec: 32 bytes in base64url.
    assert len(base64.urlsafe_b64decode(made["fernet-key"].partition("=")[2].strip())) == 32


def test_secrets_differ_from_host_to_host(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        make_secrets(folder, tmp_path)
    assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "b").values())


@pytest.mark.parametrize("lost", NAMES)
def test_a_lost_secret_is_made_again_and_the_others_are_kept(
    folder: Path, tmp_path: Path, lost: str
) -> None:
    make_secrets(folder, tmp_path)
    before = contents(folder)
    (folder / lost).unlink()
    make_secrets(folder, tmp_path)
    after = contents(folder)
    assert after.pop(lost) != before.pop(lost)
    assert after == before


@pytest.mark.parametrize(("kept", "others"), [(1, 1), (2, 1), (3, 2), (9, 3)])
def test_old_venvs_go_with_half_ones_but_one_to_go_back_to_stays(
    kept: int, others: int, tmp_path: Path
) -> None:
    settings = fake.settings({"retention_worker_images": kept})
    (command,) = fake.plan(settings).named("Remove old venvs").commands
    venvs, current = tmp_path / "venvs", settings.venv.rpartition("/")[2]
    ages = ["previous", "older", "oldest"]
    for age, name in enumerate([*ages, current]):  # as after the way back: the current is no child
        venvs.joinpath(name, "bin").mkdir(parents=True)
        complete = venvs / name / ".complete"
        complete.touch()
        os.utime(complete, (0, 1000 - age))
    venvs.joinpath("half", "bin").mkdir(parents=True)
    program, verb, _, number = command.split()
    assert (program, verb) == (f"{layout.LIB}/prune-venvs.sh", "apply")
    words = (str(venvs / current), number)
    assert run(tmp_path, "prune-venvs.sh", "check", *words, VENVS=venvs) == 1
    assert run(tmp_path, "prune-venvs.sh", "apply", *words, VENVS=venvs) == 0
    assert {path.name for path in venvs.iterdir()} == {current, *ages[:others]}
    assert run(tmp_path, "prune-venvs.sh", "check", *words, VENVS=venvs) == 0
