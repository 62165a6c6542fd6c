"""The lock of a host, by processes of this machine."""

from __future__ import annotations

import builtins
import getpass
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS
from pyinfra.connectors.util import write_stdin
from pyinfra.context import ctx_host

from tasks.layout import ROOT
from tasks.lib import connection, lock
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
    process.wait(60)


def test_one_holds_the_lock_and_the_next_gets_it_when_nobody_reads_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT", 1)
    file = tmp_path / "locks/lock"
    first = holder("ada, it's 10:00", file)
    wait_for(
        lambda: file.exists() and file.read_text() == "ada, it's 10:00\n", 60, "it is taken", 0.02
    )
    assert file.parent.stat().st_mode & 0o777 == 0o700  # nobody else may open, and so lock, it
    second = holder("grace", file)
    assert said(lock.other_holder("grace", str(file))) == "ada, it's 10:00\n"
    assert said(lock.other_holder("ada, it's 10:00", str(file))) == ""
    assert second.wait(60) == 0
    let_go(second)
    assert file.read_text() == "ada, it's 10:00\n" and first.poll() is None
    monkeypatch.setattr(lock, "WAIT", 60)
    third = holder("grace", file)  # waits for a run that just ends
    let_go(first)
    wait_for(lambda: file.read_text() == "grace\n", 60, "the next one has it", 0.02)
    let_go(third)


def with_lease(owner: str, file: Path, lease: int) -> subprocess.Popen[bytes]:
    """A run over SSH: its input stays open when it falls silent, as that of a lost connection."""
    command = ["sh", "-c", lock.script(owner, str(file), lease)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for(lambda: file.exists() and file.read_text() == f"{owner}\n", 60, "it is taken", 0.02)
    return process


def is_free(file: Path) -> bool:
    """Whether another run would get the lock."""
    return not subprocess.run(["flock", "-n", file, "true"], check=False).returncode


def test_a_run_whose_connection_is_lost_holds_the_lock_for_the_lease_and_no_longer(
    tmp_path: Path,
) -> None:
    file = tmp_path / "locks/lock"
    lease = 4
    run = with_lease("ada", file, lease)
    assert run.stdin
    for _ in range(6):  # it is slow, but there
        last = time.monotonic()
        run.stdin.write(b"\n")
        run.stdin.flush()
        time.sleep(0.8)
        assert not is_free(file)
    wait_for(lambda: is_free(file), 60, "the lock is free", 0.02)
    assert time.monotonic() - last >= lease
    assert run.wait(60) == 124 or run.returncode == 0
    run.stdin.close()


def test_a_run_that_ends_or_is_ended_lets_go_at_once(tmp_path: Path) -> None:
    file = tmp_path / "locks/lock"
    run = with_lease("ada", file, 600)
    assert run.stdin
    run.stdin.close()
    wait_for(lambda: is_free(file), 60, "the lock is free", 0.02)
    run.wait(60)
    # An admin of the host ends the process that lslocks shows.
    run = with_lease("grace", file, 600)
    run.kill()
    wait_for(lambda: is_free(file), 60, "the lock is free", 0.02)
    assert run.stdin
    run.stdin.close()
    run.wait(60)


@pytest.mark.parametrize("why", ["no folder", "no file", "another run"])
def test_a_run_without_the_lock_is_ended_by_the_preflight_alone(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a run whose preflight is slow would say that it has lost its lock."""
    monkeypatch.setattr(lock, "WAIT", 1)
    file = tmp_path / "locks/lock"
    if why == "another run":
        other = with_lease("ada", file, 60)
    elif why == "no folder":
        (tmp_path / "locks").touch()
    else:
        file.parent.mkdir()
        file.symlink_to(tmp_path / "missing/lock")
    command = ["sh", "-c", lock.script("grace", str(file), 60)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(lock.WAIT + 2)
        assert said(lock.other_holder("grace", str(file))) != ""
        assert run.stdin
        run.stdin.close()
        assert run.wait(60) == 0
    if why == "another run":
        assert other.stdin
        other.stdin.close()
        other.wait(60)


class Pipe(io.BytesIO):
    """An input that is closed from the other side after three lines."""

    def write(self, line: object) -> int:
        """Take a line."""
        if self.tell() >= 3:
            raise OSError("Socket is closed")
        return super().write(line)  # type: ignore[arg-type]


def test_a_run_says_that_it_is_there_until_nobody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tasks.lib.lock.time.sleep", waits.append)
    pipe = Pipe()
    beats = lock.Beats("\n")
    assert beats  # pyinfra gives no input if it is empty
    with pytest.raises(OSError, match="Socket is closed"):
        write_stdin(beats, pipe)
    assert pipe.getvalue() == b"\n\n\n"
    assert waits == [lock.BEAT] * 3
    assert lock.BEAT * 3 < lock.LEASE


def test_a_run_whose_machine_slept_does_not_wait_for_the_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept = iter([lock.BEAT, lock.LEASE - 1, lock.LEASE])
    now = [time.time()]
    monkeypatch.setattr("tasks.lib.lock.time.time", lambda: now[0])
    monkeypatch.setattr("tasks.lib.lock.time.sleep", lambda _: now.append(now.pop() + next(slept)))
    pipe = io.BytesIO()
    with pytest.raises(OSError, match="silent for longer"):
        write_stdin(lock.Beats("\n"), pipe)
    assert pipe.getvalue() == b"\n\n\n"


class Connection:
    """A host over SSH whose holder ends, and with it the channel that the run writes to."""

    def __init__(self, is_active: bool) -> None:
        self.connector = self.client = self.state = self
        self.is_active = lambda: is_active
        self.given: Any = None

    def get_transport(self) -> Connection:
        """The connection itself."""
        return self

    def run_shell_command(self, command: object, **given: object) -> None:
        """Fail as paramiko does."""
        self.given = given
        raise OSError("Socket is closed")


@pytest.mark.parametrize("is_active", [True, False])
def test_a_run_that_lost_its_lock_ends_but_not_one_that_disconnects(
    is_active: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Connection(is_active)
    arguments = dict.fromkeys(CONNECTOR_ARGUMENT_KEYS)
    monkeypatch.setattr(connection, "arguments", lambda _: arguments)
    monkeypatch.setattr(builtins, "input", input)  # the lock takes its place
    with ctx_host.use(broken):
        assert lock.take().startswith(f"{getpass.getuser()}@")
        if is_active:
            with pytest.raises(SystemExit):
                gevent.sleep(60)
        else:
            gevent.sleep(0.1)
    assert builtins.input is lock.ask
    assert (lock.LOST in caplog.text) is is_active
    assert isinstance(broken.given["_stdin"], lock.Beats)


ASKING = """
from gevent import monkey

monkey.patch_all()
import builtins

import gevent

from tasks.lib import lock

builtins.input = lock.ask


def beat():
    while True:
        print("beat", flush=True)
        gevent.sleep(0.05)


gevent.spawn(beat)
print("answer", input(), flush=True)
"""


def test_the_beats_go_on_while_somebody_reads_the_question() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ASKING],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdin and run.stdout
        assert [run.stdout.readline() for _ in range(3)] == ["beat\n"] * 3
        run.stdin.write("yes\n")
        run.stdin.flush()
        assert "answer yes\n" in run.stdout
