"""What the host of a group `database` and the way to it must be, and the findings about those that
are there."""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pyinfra import host, logger
from pyinfra.api import DeployError
from pyinfra.api.host import Host
from pyinfra.facts.server import Command

from tasks import layout
from tasks.lib import database_group, lock, members, progress, terminal
from tasks.lib.shell import assignments
from tasks.preflight import checks, neighbours
from tasks.preflight.members import OUT_OF_STEP, Member, asked
from tasks.preflight.questions import HostReport, Report
from tasks.settings import RELEASES, Database, HostSettings, Settings

PROGRAM = Path(__file__).with_name("route.sh")


class RouteReport(HostReport):
    """The addresses of a host on its way to the database, in one round trip."""

    def command(self, database: str) -> str:
        """The questions about this name or address."""
        return assignments({"database": database}) + PROGRAM.read_text()


def variables() -> str:
    """Assignments of the variables that the questions to the database's host use."""
    return assignments(
        {
            "disks": " ".join(layout.DISKS),
            "migrated": layout.DATABASE_MADE,
            "restore_mark": layout.RESTORE_MARK,
            "state": layout.STATE,
            "units_directory": layout.UNITS_DIRECTORY,
        }
    )


def ask(server: Host) -> Report:
    """The answers of the database's host; each host of the run may ask them."""
    report: Report = server.get_fact(HostReport, variables=variables())
    return report


def _settings(server: Host) -> Settings:
    return Settings.of_database(Database(server.name, server.data.dict()))


def _place(server: Host, report: Report) -> tuple[str, int, int]:
    """Address, port and version of the database."""
    codename = report.one("system").partition(" ")[2]
    version, port = neighbours.postgres(_settings(server), report, codename)
    return asked(server).address, port, version


def _is_known(report: Report) -> bool:
    """Whether the host is of a release that the deploy plans for."""
    return report.one("system").partition(" ")[2] in RELEASES


def reached(settings: Settings) -> Settings:
    """The settings of a host of Airflow, with the place of its database."""
    server = database_group.server()
    if not server or not server.connected or not _is_known(report := ask(server)):
        return settings.reaching(settings.database_host, 5432, min(_versions()))
    return settings.reaching(*_place(server, report))


def _versions() -> list[int]:
    return [each.postgres for each in RELEASES.values()]


def findings(settings: Settings, report: Report) -> Iterator[str]:
    """All reasons against this host of Airflow as one that has its database on another one."""
    yield from _run(settings)
    server = database_group.server()
    if not server or not server.connected or not _is_known(there := ask(server)):
        return
    yield from _way(settings, host)
    if report.one("migrated") and not there.one("migrated"):
        yield (
            f"this host's Airflow has data, and {server.name} of the group database has none. The"
            " deploy moves none: leave the database where it is, or move it as"
            " inventories/README.md has it"
        )
    codename = report.one("system").partition(" ")[2]
    version = settings.postgres.version
    own = RELEASES[codename].postgres if codename in RELEASES else version
    if version != own and not _settings(server).postgres.version:
        yield (
            f"{server.name} has PostgreSQL {version}, and the release of this host has clients of"
            f" {own}: choose hosts of one release, or give apt a source with"
            f" postgresql-client-{version}, such as apt.postgresql.org, and write postgres_version"
            f" = {version} for {server.name}"
        )


def _way(settings: Settings, client: Host) -> Iterator[str]:
    name = settings.postgres.servers[0][0]
    if not _addresses(client, name):
        yield (
            f"postgres_hosts: {client.name} knows no way to {name or 'the database'}: write a name"
            " or an address there by which Airflow's hosts reach the database's host"
        )


def _addresses(client: Host, name: str) -> list[str]:
    """The addresses from which a host reaches the database."""
    report: Report = client.get_fact(RouteReport, database=name)
    return sorted({*report.all("from")}) if name else []


def _run(settings: Settings) -> Iterator[str]:
    """Hosts that are not in this run, and options with which they would not wait for each other."""
    together = {each.name: each for each in database_group.every()}
    # Of several hosts of Airflow, each has said this about them.
    if settings.members:
        together = {settings.database_host: together[settings.database_host]}
    else:
        for option in sorted(OUT_OF_STEP.intersection(sys.argv)):
            yield (
                f"{option} can't be used with the group {members.DATABASE_GROUP}, whose host the"
                " others wait for: leave it out"
            )
    for name, each in together.items():
        if not each.connected:
            yield (
                f"{name} is not in this run: the hosts of the groups {members.GROUP} and"
                f" {members.DATABASE_GROUP} are deployed together"
            )


def check(settings: Settings) -> HostSettings:
    """Return the settings of the database's host, completed by what it and Airflow's hosts are.

    Raise DeployError with every finding and its cure, one a line, if the deploy can't succeed.
    """
    report = ask(host)
    holder = host.get_fact(Command, command=lock.other_holder(lock.take()))
    clients = [each for each in database_group.clients() if each.connected]
    if holder:
        found = [lock.refusal(holder)]
    else:
        found = checks.of_database(report, time.time())
        if _is_known(report):
            found += neighbours.of_database(settings, report)
        if report.one("installed"):
            found.append(
                "this host has an Airflow of its own, and the group database is for one without: if"
                " its database should stay here, remove that Airflow with keep_data=True first, as"
                " inventories/README.md has it"
            )
        found += _run(settings)
        if _is_known(report):
            reaching = settings.reaching(*_place(host, report))
            for each in clients:
                found += _way(reaching, each)
    if found:
        raise DeployError(
            f"{host.name} is not ready for the deploy; nothing was changed:\n"
            + "\n".join(f"  - {terminal.printable(finding)}" for finding in found)
        )
    codename = report.one("system").partition(" ")[2]
    if remark := neighbours.remark(settings, report, codename):
        progress.say_at_end(remark)
    if remark := checks.untried(codename, report.one("architecture")):
        logger.info(f"    {remark}")
    address, port, version = _place(host, report)
    name = settings.reaching(address, port, version).postgres.servers[0][0]
    own: Member = asked(host)
    addresses = {found for each in clients for found in _addresses(each, name)}
    return settings.for_release(
        codename,
        (version, port),
        tuple(dict.fromkeys((*report.all("own_name"), *own.names))),
        report.one("architecture"),
        database_clients=tuple(sorted(addresses, key=_in_order)),
    )


def _in_order(address: str) -> tuple[int, int]:
    """Addresses in their own order, those of IPv4 first."""
    found = ipaddress.ip_address(address)
    return found.version, int(found)
