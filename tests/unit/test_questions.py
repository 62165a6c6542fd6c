"""The questions of all operations are asked together, and answered until something changes."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pyinfra.api import operation
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import OperationMeta, add_op
from pyinfra.api.operations import run_ops
from pyinfra.context import ctx_host, ctx_state
from pyinfra.facts.server import Command

from tasks.lib import questions, whole_file
from tasks.lib.operations import run_unless, secret_file
from tests.unit import fake
from tests.unit.stand_ins import owner

pytestmark = pytest.mark.usefixtures("busy")


class Run:
    """A run of operations on this machine, and the commands that it sends."""

    def __init__(self, together: bool = True) -> None:
        self.state = fake._state("@local")
        (self.host,) = self.state.inventory
        self.sent: list[str] = []
        run = self.host.connector.run_shell_command

        def count(command: Any, *args: Any, **kwargs: Any) -> Any:
            self.sent.append(str(command))
            return run(command, *args, **kwargs)

        self.host.connector.run_shell_command = count  # type: ignore[method-assign]
        # As with -y: nothing is planned before.
        self.state.check_for_changes = False
        if together:
            questions.ask_together(self.state)

    def add(self, what: Any, name: str, **arguments: Any) -> OperationMeta:
        """Queue an operation; returns its result to come."""
        result: OperationMeta
        (result,) = add_op(self.state, what, name=name, **arguments).values()
        return result

    def unless(self, test: str, *commands: str) -> OperationMeta:
        """Queue commands that run unless a test succeeds."""
        name = f"Test {len(self.state.op_meta)}"
        return self.add(run_unless, name, test=test, commands=[*commands], already="it is so")

    def go(self) -> None:
        """Run what is queued."""
        with suppress(PyinfraError):  # a result says so
            run_ops(self.state)


def test_a_run_with_nothing_to_do_asks_once(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    run = Run()
    results = [run.unless(f"test -e {tmp_path}/there && : {number}") for number in range(20)]
    run.go()
    assert all(each.did_succeed() and not each.did_change() for each in results)
    assert len(run.sent) == 1


def test_files_are_among_the_questions_and_their_secrets_in_no_command(tmp_path: Path) -> None:
    def queue(run: Run) -> list[OperationMeta]:
        path, secret = str(tmp_path / "some.conf"), str(tmp_path / "secret")
        who = owner()
        return [
            run.add(
                whole_file.put, "Write", src=StringIO("a text\n"), dest=path, mode="640", **who
            ),
            run.add(
                secret_file, "Write a secret", path=secret, content=SecretStr("hunter2"), **who
            ),
        ]

    first = Run()
    made = queue(first)
    first.go()
    second = Run()
    there = queue(second)
    second.go()
    assert [each.did_change() for each in made] == [True, True]
    assert [each.did_change() for each in there] == [False, False]
    assert len(second.sent) == 1
    assert not [text for text in first.sent + second.sent if "hunter2" in text]


def test_a_change_makes_the_operations_behind_it_ask_again(tmp_path: Path) -> None:
    service, config = tmp_path / "service", tmp_path / "config"
    for path in (service, config):
        path.write_text("old")
    run = Run()
    # The service runs with its input as it is until the first operation changes that.
    before = run.unless("true")
    write = run.unless(f"grep -q new {config}", f"echo new >{config}")
    restart = run.unless(f"cmp -s {config} {service}", f"cp {config} {service}")
    run.go()
    assert [each.did_change() for each in (before, write, restart)] == [False, True, True]
    assert service.read_text() == "new\n"


def test_an_upload_is_a_change(tmp_path: Path) -> None:
    config, copy = tmp_path / "config", tmp_path / "copy"
    for path in (config, copy):
        path.write_text("old")
    run = Run()
    arguments = {"dest": str(config), "mode": "644", **owner()}
    run.add(whole_file.put, "Write", src=StringIO("new"), **arguments)
    copied = run.unless(f"cmp -s {config} {copy}", f"cp {config} {copy}")
    run.go()
    assert copied.did_change() and copy.read_text() == "new"


def test_the_answers_are_those_of_the_moment_when_the_run_begins(tmp_path: Path) -> None:
    # A person reads the plan for a while before saying yes.
    run = Run()
    result = run.unless(f"test -e {tmp_path}/made", f"touch {tmp_path}/made")
    (tmp_path / "made").touch()
    run.go()
    assert not result.did_change()


def test_the_host_answers_several_questions_at_a_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    run = Run()
    # Each of the two waits for the other one.
    reads = run.unless(f"timeout 20 grep -q word {tmp_path}/pipe", "false")
    writes = run.unless(f"timeout 20 sh -c 'echo word >{tmp_path}/pipe'", "false")
    run.go()
    assert not reads.did_change() and not writes.did_change()


def test_a_question_that_fails_is_the_operations_own(tmp_path: Path) -> None:
    @operation()
    def ask() -> Generator[str, None, None]:
        command = f"echo asked >>{tmp_path}/asked; exit 3"
        run.host.get_fact(Command, command=command)
        yield "true"

    run = Run()
    run.add(ask, "Ask")
    behind = run.unless("true")
    run.go()
    # pyinfra ends the run of a host that can't answer: once it is executed, and not before.
    assert (tmp_path / "asked").read_text().split() == ["asked", "asked"]
    assert not behind.is_complete()


@pytest.mark.parametrize("beginning", ["exit 127", "echo Welcome"])
def test_without_answers_each_operation_asks_by_itself(
    beginning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "alone", lambda command: f"{beginning}\n{command}")
    run = Run()
    made = run.unless(f"test -e {tmp_path}/made", f"touch {tmp_path}/made")
    same = run.unless("true")
    run.go()
    assert made.did_change() and not same.did_change()


def test_a_question_behind_an_answer_is_asked_in_a_second_round(tmp_path: Path) -> None:
    @operation()
    def ask() -> Generator[str, None, None]:
        first = run.host.get_fact(Command, command="echo one")
        assert run.host.get_fact(Command, command=f"echo {first}, two") == "one, two"
        yield from ()

    run = Run()
    results = [run.add(ask, f"Ask {number}") for number in range(5)]
    run.go()
    assert all(each.did_succeed() for each in results)
    assert len(run.sent) == 2


def test_a_plan_is_as_without_it() -> None:
    for together in (False, True):
        run = Run(together)
        run.state.check_for_changes = True
        run.unless("false", "true")
        run.unless("true", "true")
        assert run.state.meta[run.host].ops_change == 1
        assert len(run.sent) == 2


def test_what_a_host_answers_is_read_as_it_is(tmp_path: Path) -> None:
    text = "a \\ line\n\nümlaut\u2028and \x1b[0m\n"
    (tmp_path / "text").write_text(text)
    run = Run()
    found: list[list[str]] = []

    @operation()
    def ask() -> Generator[str, None, None]:
        found.append(run.host.get_fact(Command, command=f"cat {tmp_path}/text").split("\n"))
        yield from ()

    run.add(ask, "Ask")
    run.go()
    with ctx_state.use(run.state), ctx_host.use(run.host):
        single = run.host.get_fact(Command, command=f"cat {tmp_path}/text").split("\n")
    assert found[-1] == single == text.removesuffix("\n").split("\n")
    assert json.dumps(found[-1])
