"""The program that lets one of several hosts run the dag-processor, with a real PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import wait_for
from tests.unit import postgres
from tests.unit.fake import FILES

PROGRAM = FILES / "usr/local/lib/airflow/one-active.py"
OTHERS = "backend_type = 'client backend' and pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """The database of all hosts."""
    with postgres.server() as running:
        yield running


class Host:
    """A host whose dag-processor is a program that notes its start and its end."""

    def __init__(self, folder: Path, name: str, server: postgres.Server) -> None:
        self.notes = folder / f"{name}.notes"
        self.notes.touch()
        child = folder / f"{name}.sh"
        child.write_text(
            f"#!/bin/sh\necho start >> {self.notes}\n"
            f"trap 'echo end >> {self.notes}; exit 3' TERM\nwhile :; do sleep 0.05; done\n"
        )
        child.chmod(0o755)
        words = " ".join(f"{key}={value}" for key, value in server.environment.items())
        values = folder / f"{name}.env"
        values.write_text(f"DAGS_CONNECTION='PGDATABASE=postgres {words}'\n")
        self.said = folder / f"{name}.said"
        with self.said.open("w") as output:
            self.process = subprocess.Popen(
                ["python3", "-B", PROGRAM, child],
                env={"PATH": os.environ["PATH"], "AIRFLOW_HOST_ENV": str(values)},
                stdout=output,
                stderr=output,
            )

    @property
    def is_active(self) -> bool:
        """Whether its dag-processor has started."""
        return self.notes.read_text().startswith("start")

    @property
    def waits(self) -> bool:
        """Whether it knows that another one is active."""
        return "waits" in self.said.read_text()


@pytest.fixture
def host(tmp_path: Path, server: postgres.Server) -> Iterator[Callable[[str], Host]]:
    """Starts one."""
    started: list[Host] = []

    def start(name: str) -> Host:
        started.append(Host(tmp_path, name, server))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        # The child of one that was killed outlives it here; systemd ends it with its unit.
        subprocess.run(["pkill", "-KILL", "-f", str(tmp_path / each.notes.stem)], check=False)


def one_active_one_waiting(host: Callable[[str], Host]) -> tuple[Host, Host]:
    """Two hosts of which the first one is active."""
    first = host("first")
    wait_for(lambda: first.is_active, 60, "the first one is active", every=0.05)
    second = host("second")
    wait_for(lambda: second.waits, 60, "the second one waits", every=0.05)
    return first, second


def test_another_host_goes_on_when_the_active_one_is_killed(host: Callable[[str], Host]) -> None:
    first, second = one_active_one_waiting(host)
    assert not second.is_active
    first.process.kill()
    wait_for(lambda: second.is_active, 60, "the second one is active", every=0.05)


def test_the_program_ends_with_its_connection(
    host: Callable[[str], Host], server: postgres.Server
) -> None:
    first, second = one_active_one_waiting(host)
    # Both lose theirs, as when the server restarts; systemd starts each of them again.
    server.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where {OTHERS}")
    assert first.process.wait(60) == 1
    assert first.notes.read_text() == "start\nend\n"
    assert second.process.wait(60) == 1
    assert second.notes.read_text() == ""


def test_a_session_that_seldom_asks_keeps_the_lock(
    host: Callable[[str], Host], server: postgres.Server
) -> None:
    server.sql("alter database postgres set idle_session_timeout = '1s'")
    try:
        first = host("first")
        wait_for(lambda: first.is_active, 60, "it is active", every=0.05)
        with pytest.raises(subprocess.TimeoutExpired):
            first.process.wait(3)  # it asks every 2 seconds
    finally:
        server.sql("alter database postgres reset idle_session_timeout")


@pytest.mark.parametrize("listens", [True, False])
def test_the_program_ends_when_the_server_is_silent(
    listens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROGRAM.parent)  # as Python does for a program
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("one_active", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Where an answer or an end is due, a busy machine has time for it.
    monkeypatch.setattr(module, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(module, "ANSWER_WITHIN", 60)
    monkeypatch.setattr(module, "END_WITHIN", 60 if listens else 3)
    note, number = tmp_path / "ended", tmp_path / "number"
    psql = tmp_path / "psql"
    silent = f"test ! -e {number} || exec sleep 120"
    psql.write_text(f"#!/bin/sh\nwhile read line; do {silent}; echo t; done\n")
    psql.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    database = module.Session({})
    try:
        assert database.ask("something") == "t"
        monkeypatch.setattr(module, "ANSWER_WITHIN", 3)
        end = f"touch {note}; {'exit' if listens else ''}"
        script = f"trap '{end}' TERM; echo $$ >{number}; while :; do sleep 0.05; done"
        with pytest.raises(module.Lost):
            module.run(database, ["sh", "-c", script])
        assert note.exists()
        stat = Path(f"/proc/{number.read_text().strip()}/stat")
        wait_for(lambda: not stat.exists() or " Z " in stat.read_text(), 60, "it ended", 0.05)
    finally:
        database._psql.kill()
        database._psql.wait()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_stop_ends_the_program_and_lets_another_host_go_on(host: Callable[[str], Host]) -> None:
    first, second = one_active_one_waiting(host)
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(60) == 1  # as the program itself ended
    assert first.notes.read_text() == "start\nend\n"
    wait_for(lambda: second.is_active, 60, "the second one is active", every=0.05)


def test_a_host_that_waits_stops_at_once(host: Callable[[str], Host]) -> None:
    _, second = one_active_one_waiting(host)
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(60) == 0
    assert not second.is_active


def test_without_a_database_the_program_does_not_start(
    host: Callable[[str], Host], server: postgres.Server
) -> None:
    server.port, port = 1, server.port
    try:
        lost = host("lost")
        assert lost.process.wait(60) == 1
        assert not lost.is_active and "no session in the database" in lost.said.read_text()
    finally:
        server.port = port
