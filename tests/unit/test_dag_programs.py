"""The programs that switch DAGs and look after git repositories, with real git."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import DeployError

from tasks.worker import dags
from tests.unit import fake
from tests.unit.stand_ins import Host

USERS = ("airflow-dags",)


def test_a_version_is_switched_to_and_the_one_before_stays(tmp_path: Path) -> None:
    host = Host(tmp_path)
    folder = tmp_path / "dags"
    host.values["IMAGE_DAGS"] = str(folder)
    for name in ("one", "two", "three"):
        (folder / name).mkdir(parents=True)
        (folder / f"{name}.sums").touch()
    assert host.check("dags-switch.sh", "one") == (
        "the dag-processor reads the DAGs of version none, not one"
    )
    (folder / "three").rename(tmp_path / "three")  # staged later
    (folder / "three.sums").unlink()
    for name, kept in (("one", {"one"}), ("two", {"one", "two"})):
        assert host.apply("dags-switch.sh", name) == ""
        assert host.check("dags-switch.sh", name) == ""
        assert (folder / "current").resolve().name == name
        assert (folder / "current.name").read_text() == f"{name}\n"
        there = {path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink()}
        assert there == kept
        (folder / "two").mkdir(exist_ok=True)
        (folder / "two.sums").touch()
    (tmp_path / "three").rename(folder / "three")
    (folder / "three.sums").touch()
    assert host.apply("dags-switch.sh", "three") == ""
    assert {path.name for path in folder.glob("*.sums")} == {"two.sums", "three.sums"}
    # A run that was killed between the link and the name is noticed.
    (folder / "current.name").write_text("two\n")
    assert host.check("dags-switch.sh", "three") != ""


# Clones


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder."""
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *arguments]
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def cloned(tmp_path: Path) -> Host:
    """A host with clones of the bundle team as Airflow makes them, and its airflow.cfg."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "--quiet", "--initial-branch=main")
    git(origin, "commit", "--quiet", "--allow-empty", "-m", "one")
    for user in USERS:
        clone = tmp_path / "homes" / user / "bundles/team"
        clone.mkdir(parents=True)
        git(clone, "clone", "--quiet", "--bare", str(origin), "bare")
        git(clone, "clone", "--quiet", "bare", "tracking_repo")
    host = Host(tmp_path)
    host.values["HOMES"] = str(tmp_path / "homes")
    host.program("runuser", 'shift 3; exec "$@"')
    bundle(host, url=str(origin), branch="main")
    return host


def bundle(host: Host, **given: Any) -> None:
    """Write airflow.cfg with one bundle that is a git repository."""
    settings = fake.settings({"dags_git_bundles": {"team": {"url": "https://h/d.git"}}})
    text = fake.plan(settings).uploads["/etc/airflow/airflow.cfg"]
    assert "https://h/d.git" in text and '"tracking_ref": "main"' in text
    text = text.replace("https://h/d.git", given["url"]).replace(
        '"tracking_ref": "main"', f'"tracking_ref": "{given["branch"]}"'
    )
    config = host.folder / "airflow.cfg"
    config.write_text(text)
    host.values["CONFIG"] = str(config)


def test_clones_that_airflow_can_use_stay(cloned: Host) -> None:
    assert cloned.check("git-clones.py", *USERS) == ""
    assert cloned.apply("git-clones.py", *USERS) == ""
    assert (cloned.folder / "homes/airflow-dags/bundles/team/bare").is_dir()


def test_a_clone_of_another_address_goes(cloned: Host) -> None:
    bundle(cloned, url="https://other.example/100%%25.git", branch="main")
    clone = cloned.folder / "homes/airflow-dags/bundles/team"
    assert (
        cloned.check("git-clones.py", *USERS)
        == f"{clone} is no clone of https://other.example/100%25.git"
    )
    assert clone.exists()
    assert cloned.apply("git-clones.py", *USERS) == ""
    assert not clone.exists()
    assert cloned.check("git-clones.py", *USERS) == ""


def test_a_clone_without_the_branch_goes(cloned: Host) -> None:
    bundle(cloned, url=str(cloned.folder / "origin"), branch="younger")
    clone = cloned.folder / "homes/airflow-dags/bundles/team"
    assert cloned.check("git-clones.py", *USERS) == f"{clone} does not have the branch younger"
    assert cloned.apply("git-clones.py", *USERS) == ""
    assert not clone.exists()
    # As its owner, since git refuses a repository of another user.
    assert cloned.called("runuser")[0][:2] == ["-u", "airflow-dags"]


def test_root_looks_at_no_clone_itself(cloned: Host) -> None:
    """Otherwise the user would choose the files that root reads and removes, and its delay."""
    places = cloned.folder / "places"
    cloned.program("runuser", f"pwd >>{places}\nexit 1")
    said = cloned.apply("git-clones.py", *USERS)
    assert said.startswith("airflow-dags can't remove")
    assert (cloned.folder / "homes/airflow-dags/bundles/team").is_dir()
    calls = cloned.called("runuser")
    assert len(calls) == 2
    for _, user, dashes, limit, signal, seconds, *_ in calls:
        assert user in USERS and int(seconds) <= 60
        assert (dashes, limit, signal) == ("--", "timeout", "--signal=KILL")
    assert {*places.read_text().splitlines()} == {"/"}  # the user may not enter root's folder


def test_a_pipe_in_a_clone_holds_nothing_up(cloned: Host) -> None:
    cloned.program("timeout", 'shift 2; exec /usr/bin/timeout --signal=KILL 3 "$@"')
    config = cloned.folder / "homes/airflow-dags/bundles/team/bare/config"
    config.unlink()
    os.mkfifo(config)
    assert "is no clone of" in cloned.check("git-clones.py", *USERS)
    assert cloned.apply("git-clones.py", *USERS) == ""
    assert not config.parent.parent.exists()


# Connections


def test_connections_are_noted_when_they_change(tmp_path: Path) -> None:
    host = Host(tmp_path)
    noted = tmp_path / "git-connections"
    host.values["GIT_CONNECTIONS"] = str(noted)
    for answer in ("git_team|1", "git_team|2\\ngit_two|3", ""):
        host.program(
            "setpriv", f"cat >{tmp_path}/asked; test -z '{answer}' || printf '{answer}\\n'"
        )
        assert host.check("git-connections.sh", "git_team", "git_two") != ""
        assert host.apply("git-connections.sh", "git_team", "git_two") == ""
        assert host.check("git-connections.sh", "git_team", "git_two") == ""
        assert noted.read_text() == (answer.replace("\\n", "\n") + "\n" if answer else "")
    asking = " ".join(host.called("setpriv")[0])
    assert "ids=git_team" in asking
    # As the owner: a superuser would run code that the owner has attached to a table or a type.
    assert asking.startswith("--reuid=airflow --regid=airflow --init-groups env HOME=")
    assert " env PGOPTIONS=-c search_path=pg_catalog psql " in asking
    assert "md5(connection::text)" in (tmp_path / "asked").read_text()
    host.program("setpriv", "echo 'no database' >&2; exit 2")
    assert host.apply("git-connections.sh", "git_team") == "no database"
    assert noted.read_text() == ""


def test_repositories_are_asked_once(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.values["GIT_CONNECTIONS"] = str(tmp_path / "git-connections")
    host.values["RUN"] = str(host.bin / "run")
    host.program("run")
    assert host.check("git-asked.sh", "key") != ""
    assert host.apply("git-asked.sh", "key") == ""
    assert host.check("git-asked.sh", "key") == ""
    (words,) = host.called("run")
    assert words == ["python", str(fake.FILES / "usr/local/lib/airflow/git-ask.py")]
    # Other settings, or another connection, are asked about again.
    assert host.check("git-asked.sh", "other") != ""
    (tmp_path / "git-connections").write_text("git_team|1\n")
    assert host.check("git-asked.sh", "key") != ""
    host.program("run", "echo 'dags_git_bundles: team: no' >&2; exit 1")
    assert host.apply("git-asked.sh", "key").splitlines() == [
        "dags_git_bundles: team: no",
        "The rest of the deploy is done. The next one asks again.",
    ]
    assert host.check("git-asked.sh", "key") != ""


MODULES = {
    "configuration": "class conf:\n    def getjson(*names):\n        return [{'name': 'team',"
    " 'kwargs': {'repo_url': 'https://h/d.git', 'tracking_ref': 'main'}}]\n",
    "exceptions": "class AirflowNotFoundException(Exception): pass\n",
    "providers/git/hooks/git": "class GitHook: pass\n",
}


def test_a_repository_is_asked_without_a_person(tmp_path: Path) -> None:
    """A deploy to its own machine has a terminal, and git would ask there for a password."""
    for name, text in MODULES.items():
        path = tmp_path / f"airflow/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    asked = tmp_path / "asked"
    (tmp_path / "git").write_text(
        f'#!/bin/sh\necho "$* prompt=$GIT_TERMINAL_PROMPT typed=$(cat)" >{asked}\n'
        "printf '0\\trefs/heads/main\\n'\n"
    )
    (tmp_path / "git").chmod(0o755)
    subprocess.run(
        [sys.executable, "-B", fake.FILES / "usr/local/lib/airflow/git-ask.py"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)},
        input="yes\n",
        text=True,
        check=True,
    )
    assert asked.read_text() == "ls-remote https://h/d.git prompt=0 typed=\n"


def test_links_in_the_folder_of_dags_are_followed(tmp_path: Path) -> None:
    """As Airflow does; one that leads back or nowhere makes no endless list and no silence."""
    team, common = tmp_path / "team", tmp_path / "common"
    for folder in (team, common):
        folder.mkdir()
    (team / "one.py").touch()
    (common / "two.py").touch()
    (team / "shared").symlink_to(common)
    (common / "back").symlink_to(team)
    (team / "__pycache__").mkdir()
    (team / "__pycache__/one.pyc").touch()
    settings = fake.settings({"dags_source": "image", "dags_local_folder": str(team)})
    assert [*dags.given(settings)] == ["one.py", "shared/two.py"]
    (common / "gone.py").symlink_to(tmp_path / "nowhere")
    settings = fake.settings({"dags_source": "image", "dags_local_folder": str(team)})
    with pytest.raises(DeployError, match=r"gone.py' leads nowhere"):
        dags.given(settings)
