"""Files take their place as a whole, or not at all."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tasks.layout import ROOT
from tasks.lib import whole_file
from tasks.lib.operations import synced_folder
from tests.unit import fake
from tests.unit.programs import LIB
from tests.unit.stand_ins import owner


def put(dest: Path, text: str, **more: Any) -> Any:
    """Bring a text to this machine."""
    arguments: Mapping[str, Any] = {"mode": "640", **owner(), **more}
    return fake.run(whole_file.put, src=StringIO(text), dest=str(dest), **arguments)


def test_a_new_content_takes_the_place_of_the_file_in_one_step(tmp_path: Path) -> None:
    dest = tmp_path / "folder/some.conf"
    assert put(dest, "first").did_change()
    assert dest.read_text() == "first" and dest.stat().st_mode & 0o777 == 0o640
    assert not put(dest, "first").did_change()
    with dest.open() as before:  # as a service has it open
        assert put(dest, "second").did_change()
        assert before.read() == "first", "it was written in its place"
    assert dest.read_text() == "second" and dest.stat().st_mode & 0o777 == 0o640
    assert list(dest.parent.iterdir()) == [dest]


def test_only_other_rights_change_the_file_in_its_place(tmp_path: Path) -> None:
    dest = tmp_path / "some.conf"
    put(dest, "text")
    before = dest.stat().st_ino
    assert put(dest, "text", mode="600").did_change()
    assert dest.stat().st_mode & 0o777 == 0o600 and dest.stat().st_ino == before


def test_a_content_that_is_refused_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    dest = tmp_path / "some.conf"
    accept = ["sh", "-c", 'grep -q good "$1" || { echo "it is bad" >&2; exit 3; }', "sh"]
    assert put(dest, "good", accept=accept).did_change()
    result = put(dest, "other", accept=accept)
    assert result.did_error() and "it is bad" in result.stderr
    assert dest.read_text() == "good"
    assert list(tmp_path.iterdir()) == [dest]


def test_the_remains_of_a_killed_run_are_replaced(tmp_path: Path) -> None:
    dest = tmp_path / "some.conf"
    (tmp_path / "some.conf.new").write_text("half of a")
    put(dest, "whole")
    assert dest.read_text() == "whole" and list(tmp_path.iterdir()) == [dest]


def by_operation(file: Path) -> None:
    """Bring a file."""
    assert put(file, "text").did_change()


def by_folder(file: Path) -> None:
    """Bring a folder with the file."""
    arguments = {"dest": str(file.parent), "record": f"{file.parent.parent}/record"}
    assert fake.run(synced_folder, sources={file.name: "text"}, **arguments).did_change()


def by_program(file: Path) -> None:
    """Write a file as the programs in sh do."""
    (file.parent / "host.env").touch()
    (file.parent / f"{file.name}.new").write_text("text")
    subprocess.run(
        ["sh", "-euc", '. "$1"; replace "$2"', "sh", str(LIB / "lib.sh"), str(file)],
        env={**os.environ, "AIRFLOW_HOST_ENV": str(file.parent / "host.env")},
        check=True,
    )


@pytest.mark.parametrize(
    ("write", "end"),
    [(by_operation, ".new"), (by_folder, ".airflow-deploy-new"), (by_program, ".new")],
)
def test_a_content_is_on_the_disk_before_it_has_its_name(
    write: Callable[[Path], None], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the file may be empty after a loss of power."""
    programs, calls, file = tmp_path / "bin", tmp_path / "calls", tmp_path / "host/some.conf"
    for folder in (programs, file.parent):
        folder.mkdir()
    for name in ("sync", "mv"):
        (programs / name).write_text(
            f'#!/bin/sh\necho {name} "$@" >>{calls}\n/usr/bin/{name} "$@"\n'
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    write(file)
    assert file.read_text() == "text"
    new = f"{file}{end}"
    text = calls.read_text().replace(" -- ", " ").replace(f" {file.name}", f" {file}")
    lines = text.splitlines()
    assert lines[:2] == [f"sync {new}", f"mv -T {new} {file}"]


def test_a_program_puts_no_file_in_its_place_that_is_open_to_others(tmp_path: Path) -> None:
    file, new = tmp_path / "some.conf", tmp_path / "some.conf.new"
    (tmp_path / "host.env").touch()
    for path in (file, new):
        path.write_text(path.name)
    for owner_and_mode in (["no-such-user", "600"], [str(os.getuid()), "no-such-mode"]):
        words = ["sh", "-uc", '. "$1"; shift; replace "$@"', "sh", str(LIB / "lib.sh"), str(file)]
        environment = {**os.environ, "AIRFLOW_HOST_ENV": f"{tmp_path}/host.env"}
        done = subprocess.run([*words, *owner_and_mode], env=environment, capture_output=True)
        assert done.returncode == 1 and file.read_text() == "some.conf"


def test_one_command_follows_the_upload(tmp_path: Path) -> None:
    # pyinfra's own operation takes three: one for the content, the owner and the mode each.
    arguments: dict[str, Any] = {"dest": f"{tmp_path}/new", "mode": "640", **owner()}
    commands = fake.commands(whole_file.put, src=StringIO("text"), **arguments)
    assert len([each for each in commands if str(tmp_path / "new") in each]) == 1


def test_no_task_writes_a_file_in_its_place() -> None:
    in_place = re.compile(r"\bfiles\.(put|template|line|replace|block|sync|rsync|download)\b")
    tasks = [path for path in ROOT.joinpath("tasks").rglob("*.py") if path.name != "whole_file.py"]
    assert len(tasks) > 20
    assert [str(path) for path in tasks if in_place.search(path.read_text())] == []
