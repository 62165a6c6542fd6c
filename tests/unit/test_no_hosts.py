"""pyinfra's command line with this repository: no host and wrong settings are errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.layout import ROOT

PYINFRA = Path(sys.executable).with_name("pyinfra")
NO_HOST = "there is no host to work on"
# Runs pyinfra's command in a process of its own for each list of arguments, and prints how each
# ends. The processes are forks of one that has loaded pyinfra, which takes longest.
FORKS = """
import json, os, runpy, sys, tempfile
import pyinfra_cli.main
program, ends = sys.argv[1], []
for arguments in json.load(sys.stdin):
    with tempfile.TemporaryFile("w+") as said:
        if not (child := os.fork()):
            os.dup2(said.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            sys.argv[:] = [program, *arguments]
            runpy.run_path(program, run_name="__main__")  # which exits
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        ends.append((code, " ".join(said.read().split())))
print(json.dumps(ends))
"""

LOCAL = "inventories/local.py"
INVENTORIES = {
    "empty.py": "hosts = []\n",
    # pyinfra's host that answers nothing, so that this machine's lock is left alone.
    "silent.py": 'hosts = [("@fake", {"fake_delay": 0})]\n',
}
WRONG = {
    "a mistyped inventory": ["inventories/nope.py", "deploy.py", "-y"],
    "an inventory without hosts": ["empty.py", "deploy.py", "-y"],
    "a limit that leaves no host": [LOCAL, "deploy.py", "--limit", "nothing", "--dry"],
    "a misspelt setting": [LOCAL, "deploy.py", "--dry", "--data", "web_prot=8081"],
    "a machine without systemd": ["silent.py", "deploy.py", "--dry"],
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """pyinfra's answer to each wrong call, as one line; all of them must fail."""
    folder = tmp_path_factory.mktemp("inventories")
    for name, text in INVENTORIES.items():
        (folder / name).write_text(text)
    calls = [
        [str(folder / word) if word in INVENTORIES else word for word in words]
        for words in WRONG.values()
    ]
    done = subprocess.run(
        [sys.executable, "-c", FORKS, PYINFRA],
        cwd=ROOT,
        input=json.dumps(calls),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert [code for code, _ in ends] == [1] * len(WRONG), ends
    return dict(zip(WRONG, (said for _, said in ends), strict=True))


@pytest.mark.parametrize("wrong", list(WRONG)[:3])
def test_no_host_is_an_error(wrong: str, refusals: dict[str, str]) -> None:
    assert NO_HOST in refusals[wrong]


def test_a_misspelt_setting_is_an_error(refusals: dict[str, str]) -> None:
    said = refusals["a misspelt setting"]
    assert "web_prot is not a setting; did you mean web_port?" in said


def test_a_machine_without_systemd_is_shown_the_sandbox(refusals: dict[str, str]) -> None:
    said = refusals["a machine without systemd"]
    assert "nothing was changed" in said
    assert "./tests/sandbox/up" in said
