"""The questions of all operations, asked together before the first of them runs.

Each operation asks the host for its state. A question takes a round trip, and a run with nothing to
do consists only of questions. So before its first operation a run goes through all of them, as a
plan does, and sends their questions in one command. Later questions are answered from these answers
until something changes a host: then all answers are forgotten, and each operation asks by itself.

The host answers several at a time, after any commands of a killed deploy have ended. A question
changes nothing, so the answers are the same as if each operation asked by itself.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from paramiko import SSHException
from pyinfra.api import StringCommand
from pyinfra.api.host import Host
from pyinfra.api.state import BaseStateCallback, State, StateStage
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_host

from tasks.lib.operations import alone

PROGRAM = Path(__file__).with_name("answer.py")
ROUNDS = 5  # an answer may lead an operation to its next question

Answer = tuple[bool, CommandOutput]


class _Question(NamedTuple):
    """A question as the host gets it."""

    command: str
    given: str  # its standard input
    surroundings: str  # the connector's arguments, such as those of sudo


class _NotYet(Exception):
    """An operation asks something that has no answer yet."""


# Of the greenlet that runs now: whether a command is a question, and whether it can wait.
_is_question: ContextVar[bool] = ContextVar("is_question", default=False)
_can_wait: ContextVar[bool] = ContextVar("can_wait", default=False)


@contextmanager
def _set(variable: ContextVar[bool]) -> Iterator[None]:
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


def asked() -> AbstractContextManager[None]:
    """A context whose commands are questions: they change nothing on their host."""
    return _set(_is_question)


class Together(BaseStateCallback):
    """Asks the questions of a run, and has the answers."""

    def __init__(self, state: State) -> None:
        self._answers: dict[Host, dict[_Question, Answer | None]] = {
            each: {} for each in state.inventory
        }
        self._open: dict[Host, dict[_Question, dict[str, Any]]] = {}
        self._has_begun = False
        for host in state.inventory:
            self._stand_before(host)

    def operation_start(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        """Before the first operation, ask the questions of all."""
        if self._has_begun:
            return
        self._has_begun = True
        waiting = {each: state.get_op_order() for each in state.inventory.get_active_hosts()}
        with _as_a_plan(state):
            for _ in range(ROUNDS):
                self._open = {host: {} for host in waiting}
                found = {
                    each: gevent.spawn(self._find, state, each, waiting[each]) for each in waiting
                }
                gevent.joinall([*found.values()])
                waiting = {host: found[host].value for host in waiting if self._open[host]}
                gevent.joinall([gevent.spawn(self._ask, state, each) for each in waiting])

    def _stand_before(self, host: Host) -> None:
        """Answer the questions to a host, and notice commands that change it."""
        get_fact, run, put_file = host.get_fact, host.run_shell_command, host.put_file

        def ask_fact(*args: Any, **kwargs: Any) -> Any:
            with asked():
                return get_fact(*args, **kwargs)

        def run_or_answer(command: StringCommand | str, *args: Any, **kwargs: Any) -> Answer:
            if not _is_question.get():
                self._forget()
                return run(command, *args, **kwargs)
            question, arguments = _question(command, kwargs)
            known = self._answers[host]
            if answer := known.get(question):
                return answer
            if _can_wait.get():
                if question not in known:
                    self._open[host][question] = arguments
                raise _NotYet
            return run(command, *args, **kwargs)

        def put(*args: Any, **kwargs: Any) -> bool:
            self._forget()
            return put_file(*args, **kwargs)

        replaced: dict[str, Callable[..., Any]] = {
            "get_fact": ask_fact,
            "run_shell_command": run_or_answer,
            "put_file": put,
        }
        for name, function in replaced.items():
            setattr(host, name, function)

    def _forget(self) -> None:
        # A change on one host may change the answers of another: they share a database and a
        # cluster.
        for answers in self._answers.values():
            answers.clear()

    def _find(self, state: State, host: Host, operations: list[str]) -> list[str]:
        """Go through operations of a host, each up to its first question without an answer; returns
        those that have one."""
        waiting = []
        with ctx_host.use(host), _set(_can_wait):
            for op_hash in operations:
                if op_hash in state.ops[host]:
                    commands: Any = state.ops[host][op_hash].command_generator()
                    try:
                        next(commands, None)
                    except _NotYet:
                        waiting.append(op_hash)
                    except Exception:  # the operation reports it when it runs
                        pass
                    finally:
                        commands.close()
        return waiting

    def _ask(self, state: State, host: Host) -> None:
        """Send the open questions to a host. The operation itself asks one that fails again: then
        pyinfra says so."""
        surroundings, arguments = next((q.surroundings, a) for q, a in self._open[host].items())
        asked = [each for each in self._open[host] if each.surroundings == surroundings]
        self._answers[host] |= dict.fromkeys(asked)
        sent = json.dumps([[each.command, each.given] for each in asked])
        try:
            succeeded, output = host.connector.run_shell_command(
                StringCommand(alone(f"/usr/bin/python3 -c {shlex.quote(PROGRAM.read_text())}")),
                print_input=state.print_fact_input,
                **{**arguments, "_stdin": sent},
            )
            answers = json.loads(output.stdout) if succeeded else []
        except (OSError, SSHException, ValueError):  # no connection, no Python, or other words
            return
        for question, (status, *texts) in zip(asked, answers, strict=False):
            if status == 0:
                streams = zip(("stdout", "stderr"), texts, strict=True)
                lines = [OutputLine(name, each) for name, text in streams for each in text]
                self._answers[host][question] = (True, CommandOutput(lines))


def _question(
    command: StringCommand | str, options: Mapping[str, Any]
) -> tuple[_Question, dict[str, Any]]:
    """A question, and the connector's arguments without its standard input."""
    arguments = {key: value for key, value in options.items() if not key.startswith("print_")}
    given = arguments.pop("_stdin", None)
    text = command if isinstance(command, str) else command.get_raw_value()
    surroundings = repr(sorted(arguments.items()))
    return _Question(text, given.getvalue() if given else "", surroundings), arguments


@contextmanager
def _as_a_plan(state: State) -> Iterator[None]:
    """Operations take the way that they take in a plan, and say nothing."""
    silent: list[tuple[Any, str, Any]] = [
        (state, "is_executing", False),
        (state, "current_stage", StateStage.Prepare),
        (state, "print_noop_info", False),
        (state, "print_fact_info", False),
        (state.config, "DIFF", False),
    ]
    before = [getattr(thing, name) for thing, name, _ in silent]
    for thing, name, value in silent:
        setattr(thing, name, value)
    try:
        yield
    finally:
        for (thing, name, _), value in zip(silent, before, strict=True):
            setattr(thing, name, value)


def ask_together(state: State) -> None:
    """Have this run ask its questions together; once, even if several hosts load deploy.py."""
    if not any(isinstance(handler, Together) for handler in state.callback_handlers):
        state.add_callback_handler(Together(state))
