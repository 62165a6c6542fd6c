"""The lock of a host, by processes of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.lib import lock
from tests.support import wait_for


def holder(owner: str, file: Path) -> subprocess.Popen[bytes]:
    """A run that takes the lock."""
    return subprocess.Popen(["sh", "-c", lock.script(owner, str(file))], stdout=subprocess.PIPE)


def said(script: str) -> str:
    """The output of shell commands."""
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


def let_go(process: subprocess.Popen[bytes]) -> None:
    """The effect that the end of a connection, or of its reader, has on the other side."""
    assert process.stdout
    process.stdout.close()
    process.wait(10)


def test_one_holds_the_lock_and_the_next_gets_it_when_nobody_reads_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT", 1)
    file = tmp_path / "locks/lock"
    first = holder("ada, it's 10:00", file)
    wait_for(
        lambda: file.exists() and file.read_text() == "ada, it's 10:00\n", 5, "it is taken", 0.02
    )
    assert file.parent.stat().st_mode & 0o777 == 0o700  # nobody else may open, and so lock, it
    second = holder("grace", file)
    assert said(lock.other_holder("grace", str(file))) == "ada, it's 10:00\n"
    assert said(lock.other_holder("ada, it's 10:00", str(file))) == ""
    assert second.wait(lock.WAIT + 5) == 0
    let_go(second)
    assert file.read_text() == "ada, it's 10:00\n" and first.poll() is None
    third = holder("grace", file)  # waits for a run that just ends
    let_go(first)
    wait_for(lambda: file.read_text() == "grace\n", 5, "the next one has it", 0.02)
    let_go(third)
