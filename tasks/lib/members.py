"""Several hosts that are one Airflow: the group `airflow` of an inventory.

The first one does all work that is needed once. pyinfra starts an operation that all hosts have
only when each host has finished the ones before; between two of these, each host runs by itself. So
the others copy files of the first host in an operation that all hosts have, and in which the first
one has nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from io import StringIO

import gevent
from pyinfra import host
from pyinfra.api import StringCommand, operation
from pyinfra.api.host import Host
from pyinfra.facts.server import Command

from tasks.layout import LIB
from tasks.lib import connection, questions
from tasks.lib.operations import alone, ensure, refused, run_unless

GROUP = "airflow"
LOOK_EVERY = 0.2  # seconds, whether the host before has finished


def names() -> tuple[str, ...]:
    """The names of all hosts of this host's Airflow, in the inventory's order; none if it has
    one."""
    group = host.inventory.groups.get(GROUP, [])
    return tuple(each.name for each in group) if host in group and len(group) > 1 else ()


def fellows() -> list[Host]:
    """The hosts with these names."""
    return [host.inventory.get_host(name) for name in names()]


def said_by(member: Host, command: str) -> str | None:
    """The output of a command on another host, which no option of pyinfra shows; none if it
    fails."""
    arguments = connection.arguments(member)
    with questions.asked():
        succeeded, output = member.run_shell_command(StringCommand(command), **arguments)
    return "".join(f"{line}\n" for line in output.stdout_lines) if succeeded else None


@operation()
def copy_from_first(kind: str) -> Generator[str | StringCommand, None, None]:
    """
    Give this host the same files as the first one.

    They go through the memory of this process and the standard input of a command: they are in no
    argument, no output and no diff.

    + kind: the files, as shared-files.sh knows them
    """
    program = f"{LIB}/shared-files.sh"
    first = fellows()[0]
    if host.name == first.name:
        host.noop("it has them")
        return
    files = said_by(first, f"{program} print {kind}")
    if files is None:
        # In a plan, that host may not have made them yet.
        yield refused(f"{first.name} does not give its {kind}")
        return
    # If nobody read the input, its writer would fail.
    same = f"{program} check {kind} >/dev/null 2>&1 && echo yes; cat >/dev/null"
    if host.get_fact(Command, command=same, _stdin=StringIO(files)) == "yes":
        host.noop(f"they are those of {first.name}")
        return
    yield StringCommand(alone(f"{program} apply {kind}"), _stdin=StringIO(files))


@operation()
def unless_first(
    question: str, test: str, commands: list[str], already: str
) -> Generator[str, None, None]:
    """
    Run commands on each host but the first one, unless a test succeeds here or a question there.

    + question: shell command without side effects, for the first host
    + test, commands, already: like those of `run_unless`
    """
    first = fellows()[0]
    if host.name == first.name:
        host.noop(already)
    else:
        yield from _unless([first], question, test, commands, already)


@operation()
def unless_others(
    question: str, test: str, commands: list[str], already: str
) -> Generator[str, None, None]:
    """
    Run commands on the first host, unless a test succeeds here or a question on another host.

    + question: shell command without side effects, for the other hosts
    + test, commands, already: like those of `run_unless`
    """
    first, *others = fellows()
    if host.name != first.name:
        host.noop(already)
    else:
        yield from _unless(others, question, test, commands, already)


def _unless(
    asked: list[Host], question: str, test: str, commands: list[str], already: str
) -> Generator[str, None, None]:
    """Run commands, unless a test succeeds here or a question on one of the asked hosts."""
    run: Callable[..., Generator[str, None, None]] = run_unless._inner
    needed = [*run(test, commands, already)]
    if needed and any(said_by(each, f"{question} 2>/dev/null") is not None for each in asked):
        host.noop(already)
        return
    yield from needed


@operation()
def in_step() -> Generator[str, None, None]:
    """Continue when all hosts have reached this operation."""
    host.noop("they have")
    yield from ()


@operation()
def agree() -> Generator[str, None, None]:
    """Fail unless this host has the same configuration and virtual environment as the first one."""
    first = fellows()[0]
    theirs, own = (said_by(each, f"{LIB}/shared-files.sh sums") or "" for each in (first, host))
    if theirs and theirs == own:
        host.noop("they are the same")
        return
    differing = {*theirs.splitlines()} ^ {*own.splitlines()}
    files = " ".join(sorted({line.split()[-1] for line in differing}))
    said = f"this host differs from {first.name}: {files or 'neither has a configuration'}"
    yield refused(said)


class _Turns:
    """How far the hosts are with an operation that they run one after the other."""

    def __init__(self) -> None:
        self.finished: set[str] = set()
        self.failed: set[str] = set()


# By operation. All hosts load deploy.py, but this module is loaded once for all of them.
_turns: dict[str, _Turns] = {}


@operation()
def ensure_in_turn(program: str, already: str) -> Generator[str, None, None]:
    """
    Run a program as `ensure` does, on one host after the other in the inventory's order.

    A host begins when those before it have finished. If one fails, those behind it stay as they
    are.

    + program, already: like those of `ensure`
    """
    run: Callable[..., Generator[str, None, None]] = ensure._inner
    if not host.state.is_executing:
        yield from run(program, already)
        return
    # The same for all hosts; a run may have the same program several times.
    turns = _turns.setdefault(host.current_op_hash or program, _Turns())
    members = names()
    before = {*members[: members.index(host.name)]}
    while not before <= turns.finished and not turns.failed:
        gevent.sleep(LOOK_EVERY)
    if turns.failed:
        turns.failed.add(host.name)
        said = f"{', '.join(sorted(before & turns.failed))} failed: this host stays as it is"
        yield refused(said)
        return
    try:
        yield from run(program, already)
        turns.finished.add(host.name)
    finally:
        if host.name not in turns.finished:
            turns.failed.add(host.name)
