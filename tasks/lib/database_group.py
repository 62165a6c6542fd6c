"""A database on a host of its own: the group `database` of an inventory.

Its host has nothing but PostgreSQL, and the hosts of the group `airflow` reach it over TLS.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator, Iterator

from pydantic import SecretStr
from pyinfra import host
from pyinfra.api import DeployError, StringCommand, operation
from pyinfra.api.host import Host

from tasks.layout import LIB
from tasks.lib import members
from tasks.lib.operations import secret_file
from tasks.settings import Database, Settings

LOGINS = f"{LIB}/database-logins.py"


def server() -> Host | None:
    """The host of the group, none if the inventory has no such group."""
    return next(iter(host.inventory.groups.get(members.DATABASE_GROUP, [])), None)


def clients() -> list[Host]:
    """The hosts of Airflow, in the inventory's order."""
    return list(host.inventory.groups.get(members.GROUP, []))


def every() -> list[Host]:
    """The hosts of both groups."""
    there = server()
    return [*clients(), *([there] if there else [])]


def check() -> None:
    """Raise DeployError if the groups of the inventory make no sense together."""
    if wrong := list(conflicts()):
        raise DeployError("\n".join(wrong))


def conflicts() -> Iterator[str]:
    """Sentences about groups that can't be."""
    group = members.DATABASE_GROUP
    there = host.inventory.groups.get(group, [])
    if not there:
        # Data of a group that this inventory does not have is no group.
        if group in host.inventory.group_data and not host.inventory.group_data[group]:
            yield (
                f"the group {group} is empty: name the host in it that should have the database, or"
                " leave the group out"
            )
        return
    names = ", ".join(each.name for each in there)
    if not clients():
        yield (
            f"the group {group} ({names}) is a database for the hosts of a group {members.GROUP},"
            " and there is none: name them in it. If the group means something else, or comes from"
            f" an inventory that is called {group}.py, give it another name"
        )
        return
    if len(there) > 1:
        yield (
            f"the group {group} has several hosts ({names}): name one, since the deploy makes no"
            ' standby; for those write postgres_provider = "existing" instead'
        )
    for each in there:
        if each in clients():
            yield (
                f"{each.name} is in the groups {group} and {members.GROUP}: name another host for"
                f" the database, or leave the group {group} out, and the one host of Airflow has it"
            )
    for each in host.inventory:
        if each not in there and each not in clients():
            yield (
                f"{each.name} has no role: with a group {group} each host of the inventory is in it"
                f" or in the group {members.GROUP}; give it an inventory of its own"
            )


def settings() -> Settings:
    """The settings of this host."""
    if not (there := server()):
        return Settings.from_data(host.data.dict(), members.names())
    database = Database(there.name, there.data.dict())
    if host.name == there.name:
        return Settings.of_database(database)
    return Settings.from_data(host.data.dict(), members.names(), database)


def printed() -> dict[str, str] | None:
    """The files that Airflow's hosts need to reach the database, by their part of it: the logins of
    `owner` and `dags`, and the `authority` of its certificate; none if it has not made them yet.

    They go through the memory of this process only.
    """
    there = server()
    said = members.said_by(there, f"{LOGINS} print") if there and there.connected else None
    if not said:
        return None
    _, *words = re.split(r"^# (\w+)\n", said, flags=re.MULTILINE)
    return dict(zip(words[::2], words[1::2], strict=True))


@operation()
def copied_file(
    part: str, path: str, user: str, mode: str
) -> Generator[str | StringCommand, None, None]:
    """
    Give this host a file that the database's host has made.

    It is in no argument, no output and no diff.

    + part: which one of them
    + path: its path here
    + user: its owner
    + mode: its permissions
    """
    found = printed()
    if found is None:
        # In a plan it may still have to make them.
        yield f"echo {shlex.quote('the host of the database does not give its logins')} >&2; exit 1"
        return
    yield from secret_file._inner(path=path, content=SecretStr(found[part]), user=user, mode=mode)
