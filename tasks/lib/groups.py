"""Hosts that serve Airflow's hosts: the one host of a group `database` or `cluster`, or of both.

Such a host has nothing of Airflow. The hosts of the group `airflow` reach it over TLS, with logins
that it makes and they copy.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any

from pydantic import SecretStr
from pyinfra import host
from pyinfra.api import DeployError, StringCommand, operation
from pyinfra.api.host import Host
from pyinfra.api.state import BaseStateCallback

from tasks.layout import LIB
from tasks.lib import members
from tasks.lib.operations import refused, secret_file
from tasks.settings import GROUPS, Server, Settings

# Of each group, the program that prints the files for Airflow's hosts.
PROGRAMS = {"database": "database-logins.py", "cluster": "kubeconfig.py"}
# Advice for a group with several hosts.
INSTEAD = {
    "database": 'the deploy makes no standby; for those write postgres_provider = "existing"',
    "cluster": 'the deploy makes one node; for more write kubernetes_provider = "existing"',
}


def server(group: str) -> Host | None:
    """The host of a group, none if the inventory has no such group."""
    return next(iter(host.inventory.groups.get(group, [])), None)


def servers() -> dict[str, Host]:
    """The host of each group that the inventory has."""
    return {group: there for group in GROUPS if (there := server(group))}


def all_names() -> list[str]:
    """The names of all groups, in the order of `all_hosts`."""
    return [members.GROUP, *servers()]


def airflow_hosts() -> list[Host]:
    """The hosts of Airflow, in the inventory's order."""
    return list(host.inventory.groups.get(members.GROUP, []))


def all_hosts() -> list[Host]:
    """The hosts of all groups, each once."""
    return list(dict.fromkeys([*airflow_hosts(), *servers().values()]))


class _EndWithTheFirstFailure(BaseStateCallback):
    """Sets an option of pyinfra again, since pyinfra resets it after loading deploy.py."""

    def operation_start(self, state: Any, op_hash: str) -> None:  # type: ignore[override]
        """Before each operation; setting it twice changes nothing."""
        state.config.FAIL_PERCENT = 0


def end_with_the_first_failure() -> None:
    """A host that fails ends the run: otherwise pyinfra would go on with the others."""
    handlers = host.state.callback_handlers
    are_together = members.names() or servers()
    if are_together and not any(isinstance(each, _EndWithTheFirstFailure) for each in handlers):
        host.state.add_callback_handler(_EndWithTheFirstFailure())


def check() -> None:
    """Raise DeployError if the groups of the inventory make no sense together."""
    if wrong := list(conflicts()):
        raise DeployError("\n".join(wrong))


def conflicts() -> Iterator[str]:
    """Sentences about impossible groups."""
    for group in GROUPS:
        yield from _conflicts_of(group)
    if not (there := servers()) or not airflow_hosts():
        return
    known = [*airflow_hosts(), *(each for group in there for each in host.inventory.groups[group])]
    for each in host.inventory:
        if each not in known:
            yield (
                f"{each.name} has no role: with a group {' and '.join(there)} each host of the"
                f" inventory is in such a group or in the group {members.GROUP}; give it an"
                " inventory of its own"
            )


def _conflicts_of(group: str) -> Iterator[str]:
    there, has = host.inventory.groups.get(group, []), GROUPS[group].has
    if not there:
        # A file in group_data makes no group: the inventory must list the hosts of one.
        if group in host.inventory.group_data and not host.inventory.group_data[group]:
            yield (
                f"the group {group} is empty: name the host in it that should have {has}, or leave"
                " the group out"
            )
        return
    names = ", ".join(each.name for each in there)
    if not airflow_hosts():
        yield (
            f"the group {group} ({names}) is {has} for the hosts of a group {members.GROUP},"
            " and there is none: name them in it. If the group means something else, or comes from"
            f" an inventory that is called {group}.py, give it another name"
        )
        return
    if len(there) > 1:
        yield (
            f"the group {group} has several hosts ({names}): name one, since {INSTEAD[group]}"
            " instead"
        )
    for each in there:
        if each in airflow_hosts():
            # One host that is in both would be a host that is alone, which needs no group.
            yield (
                f"{each.name} is in the groups {group} and {members.GROUP}: name another host for"
                f" {has}, or leave the group {group} out, and the one host of Airflow has it"
            )


def settings() -> Settings:
    """The settings of this host."""
    there = _servers()
    if any(host.name == each.name for each in there.values()):
        return settings_of_server(host)
    return Settings.from_data(host.data.dict(), members.names(), there)


def settings_of_server(there: Host) -> Settings:
    """The settings of the host of a group."""
    registry = airflow_hosts()[0].data.dict().get("worker_registry")
    return Settings.of_server(there.name, _servers(), registry)


def _servers() -> dict[str, Server]:
    return {group: Server(each.name, each.data.dict()) for group, each in servers().items()}


def printed(group: str) -> dict[str, str] | None:
    """The files that Airflow's hosts need of a group's host, by their names there; none if it has
    not made them yet.

    Of the database: the logins of `owner` and `dags`, and the `authority` of its certificate. Of
    the cluster: the `kubeconfig` of an administrator. They go through the memory of this process
    only.
    """
    there = server(group)
    program = f"{LIB}/{PROGRAMS[group]} print"
    said = members.said_by(there, program) if there and there.connected else None
    if not said:
        return None
    _, *words = re.split(r"^# (\w+)\n", said, flags=re.MULTILINE)
    return dict(zip(words[::2], words[1::2], strict=True))


@operation()
def copied_file(
    group: str, part: str, path: str, user: str, mode: str
) -> Generator[str | StringCommand, None, None]:
    """
    Give this host a file that the host of a group has made.

    It is in no argument, no output and no diff.

    + group: whose host has it
    + part: which one of its files
    + path: its path here
    + user: its owner
    + mode: its permissions
    """
    found = printed(group)
    if found is None or part not in found:
        # In a plan, that host may not have made them yet.
        said = f"the host of {GROUPS[group].has} does not give its {part}"
        yield refused(said)
        return
    yield from secret_file._inner(path=path, content=SecretStr(found[part]), user=user, mode=mode)
