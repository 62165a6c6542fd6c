"""The programs in Python are called alike; test_host_programs.py has those in sh."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit import fake, programs
from tests.unit.fake import FILES

PROGRAMS = {
    path.name: path
    for path in sorted((FILES / "usr/local").rglob("*"))
    if path.is_file() and re.match(r'(#!/usr/bin/python3.*\n)?"""', path.read_text())
    if path.parent.name != "python" and path.name not in ("commands.py", "lib.py")  # modules
}
# They are right without arguments.
ALONE = {"airflow-smoke-test", "git-ask.py"}
# Runs a program of Airflow's virtual environment with stand-ins for the packages that are there.
RUNNER = """
import runpy, sys
from pathlib import Path
from unittest.mock import MagicMock

class Finder:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("airflow", "sqlalchemy", "werkzeug"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return MagicMock(__path__=[], __spec__=spec)

    def exec_module(self, module):
        pass

import importlib.machinery
sys.meta_path.insert(0, Finder())
del sys.argv[0]
sys.path[0] = str(Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_wrong_call_shows_the_usage_and_changes_nothing(name: str, tmp_path: Path) -> None:
    # There is no command of the host, and no /etc/airflow.
    env = programs.host_env(tmp_path, fake.settings()) | {"PATH": "/usr/bin:/bin"}
    env["AIRFLOW_SURROUNDINGS"] = "lib.sh"
    text = PROGRAMS[name].read_text()
    runner = ["-c", RUNNER] if re.search(r"^from airflow\b", text, re.MULTILINE) else []
    wrong = [[], ["--no-such", "word"]] if name not in ALONE else [["--no-such"]]
    if re.search(r"PROGRAM ARGUMENT\.\.\.:", text):
        wrong = [[]]  # it takes all words
    for words in wrong:
        command = [sys.executable, "-B", *runner, str(PROGRAMS[name]), *words]
        done = subprocess.run(command, env=env, text=True, capture_output=True)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert re.match(rf"usage: {re.escape(name)}\b", done.stderr), done.stderr


def test_all_forms_of_a_call_are_shown(tmp_path: Path) -> None:
    env = programs.host_env(tmp_path, fake.settings())
    done = subprocess.run([PROGRAMS["kubeconfig.py"]], env=env, text=True, capture_output=True)
    assert done.stderr.splitlines() == [
        "usage: kubeconfig.py check|apply ACCOUNT PATH GROUP",
        "usage: kubeconfig.py renew",
        "usage: kubeconfig.py print",
    ]


def test_a_program_begins_and_ends_like_the_others() -> None:
    assert len(PROGRAMS) > 20
    for name, path in PROGRAMS.items():
        text = path.read_text()
        assert "\n\ndef main() -> None:\n" in text, name
        assert re.search(r'\n\nif __name__ == "__main__":\n(    .*\n)+$', text), name
