"""Files take their place as a whole, or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from tasks.layout import ROOT
from tasks.lib import whole_file
from tests.unit import fake
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
