"""The command line of `tests/run`, and its verdict on stories."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.layout import ROOT
from tests import runner, stories
from tests.runner import Run
from tests.stories import Story

# An operation as pyinfra names it, with its module in front.
OPERATION = r"(?:[A-Z][\w ]+|minikube) \| ([^|\n]+)"
STORY = Story("main", "It works.", 5, "bare")


def order(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command behind tests/run."""
    command = [sys.executable, "-m", "tests.stories", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_folder_with_tests_is_a_story_with_a_description() -> None:
    folders = {path.parent.name for path in stories.FOLDER.glob("*/test_*.py")}
    found = stories.stories()
    assert {story.name for story in found} == folders
    assert found[0].name == "main"
    for story in found:
        assert story.sentence.endswith(".") and "\n" not in story.sentence, story.name
        assert story.start in ("bare", "deployed"), story.name
        assert story.minutes > 0, story.name
        assert story.releases and {*story.releases} <= {*stories.RELEASES}, story.name
    assert not [story for story in found if any(letter.isdigit() for letter in story.name)]


def test_no_test_module_imports_from_another() -> None:
    """A story stands on its own, and a change of one test concerns no other file."""
    importing = re.compile(r"^\s*(from|import) tests(\.\w+)*[. ](import )?test_", re.M)
    assert importing.search("from tests.e2e.main.test_deploy import DAG")
    assert importing.search("    from tests.unit import test_plan")
    files = (ROOT / "tests").rglob("*.py")
    assert [str(file) for file in files if importing.search(file.read_text())] == []


def _pattern(node: ast.expr) -> str:
    """A pattern for the texts that an expression can be; none if nothing is known of them."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_pattern, node.values))
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    return ".+" if isinstance(node, ast.FormattedValue) else ""


def test_operations_that_stories_name_are_those_of_the_deploy() -> None:
    """A story that CI does not run would notice another name late, or never if it expects none."""
    programs = [ROOT / "deploy.py", *(ROOT / "tasks").rglob("*.py")]
    calls = [each for path in programs for each in ast.walk(ast.parse(path.read_text()))]
    keywords = [each for call in calls if isinstance(call, ast.Call) for each in call.keywords]
    values = [each.value for each in keywords if each.arg == "name"]
    branches = [[it.body, it.orelse] if isinstance(it, ast.IfExp) else [it] for it in values]
    patterns = {found for each in branches for value in each if (found := _pattern(value))}
    texts = [
        each.value
        for path in stories.FOLDER.rglob("*.py")
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]
    named = {match[1] for text in texts if (match := re.fullmatch(OPERATION, text))}
    assert len(named) > 50
    # Some stories name the beginning.
    unknown = [
        name
        for name in sorted(named)
        if not any(re.fullmatch(it, name) or it.startswith(re.escape(name)) for it in patterns)
    ]
    assert unknown == []


def test_the_list_names_each_story_once() -> None:
    lines = order("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [story.name for story in stories.stories()]


@pytest.mark.parametrize(
    "words",
    [["bokworm"], ["main", "bokworm"], ["all", "--from", "bokworm"], ["all", "--from", "unit"]],
)
def test_an_unknown_story_ends_it_with_the_list(words: list[str]) -> None:
    done = order(*words)
    assert done.returncode == 2
    assert f"there is no story {words[-1]!r}" in done.stderr
    assert stories.listing() in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["all", "main"],
        ["list", "unit"],
        ["--from", "main"],
        ["main", "--from", "main"],
        ["main", "--jobs", "0"],
        ["main", "--release", "buster"],
        ["main", "--fast"],
    ],
)
def test_a_senseless_command_line_is_refused(words: list[str]) -> None:
    done = order(*words)
    assert done.returncode == 2
    assert "usage: ./tests/run" in done.stderr


def test_a_story_runs_only_on_the_releases_that_it_begins_on() -> None:
    (story,) = [each for each in stories.stories() if each.name == "debian"]
    assert story.releases == ("bookworm",)
    done = order("debian", "--release", "trixie")
    assert done.returncode == 2 and "debian begins on bookworm only" in done.stderr
    for release in stories.RELEASES:
        chosen = argparse.Namespace(what=["all"], release=release, first=None)
        names = {run.story.name for run in runner.chosen_runs(chosen)}
        assert ("debian" in names) == (release == "bookworm") and "main" in names


def test_only_a_story_that_ran_and_passed_counts_as_passed() -> None:
    assert Run(STORY, "trixie", passed=1).ok
    assert not Run(STORY, "trixie").ok
    assert not Run(STORY, "trixie", passed=9, failed=1).ok
    assert not Run(STORY, "trixie", passed=9, error="1 skipped").ok


def test_two_runs_take_different_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_SANDBOX_CACHE", str(tmp_path))
    with runner.slot() as first, runner.slot() as second:
        assert first != second
    with runner.slot() as again:
        assert again == first


def test_a_changed_file_of_the_deploy_wants_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/one.py").write_text("1")
    before = runner.deployed_state("trixie")
    assert before != runner.deployed_state("bookworm")
    (tmp_path / "README.md").write_text("1")
    assert runner.deployed_state("trixie") == before
    (tmp_path / "tasks/one.py").write_text("2")
    assert runner.deployed_state("trixie") != before


INTERRUPTED = """
import contextlib, pathlib, signal, sys, threading

from tests import runner
from tests.stories import Story



class Runner(runner.Runner):
    def _prepare(self, run, name):
        pass

    def _test(self, run, name):
        threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGTERM)).start()
        self._follow(["sleep", "60"], name, run, run.evidence / "tests.txt")


runner.slot = lambda: contextlib.nullcontext("a-slot")
runner.clear = lambda name: print(f"{name} is removed")
signal.signal(signal.SIGTERM, lambda number, frame: signal.default_int_handler(number, frame))
run = runner.Run(Story("main", "It works.", 5, "bare"), "bookworm")
try:
    Runner([run], pathlib.Path(sys.argv[1]), keep=False).run(1)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupted_run_removes_its_machines_before_it_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["a-slot is removed", "interrupted"]
