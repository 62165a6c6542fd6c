"""The requirements on the hosts of the groups `database` and `cluster` and on the ways to them, and
the findings about them."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path

from pyinfra import host
from pyinfra.api.host import Host
from pyinfra.facts.server import Command

from tasks import layout
from tasks.lib import groups, lock
from tasks.lib.shell import assignments
from tasks.preflight import checks, neighbours, questions
from tasks.preflight.members import OUT_OF_STEP, Member, asked
from tasks.preflight.questions import API_PORT, HostReport, Report
from tasks.settings import RELEASES, HostSettings, Settings

PROGRAM = Path(__file__).with_name("route.sh")


class RouteReport(HostReport):
    """The addresses of a host on its way to another one, in one round trip."""

    def command(self, server: str, port: int) -> str:  # type: ignore[override]
        """The questions about this name or address, and the port there."""
        return assignments({"server": server, "port": str(port)}) + PROGRAM.read_text()


def variables(settings: Settings) -> str:
    """Assignments of the variables that the questions to a host that serves others use."""
    values = {
        "migrated": layout.DATABASE_MADE,
        "restore_mark": layout.RESTORE_MARK,
        **questions.of_places(settings),
    }
    if "cluster" in settings.serves:
        values |= {**questions.of_cluster(settings), "firewall_ports": str(API_PORT)}
    return assignments(values)


def ask(server: Host) -> Report:
    """The answers of a host that serves others; each host of the run may ask them."""
    settings = groups.settings_of_server(server)
    report: Report = server.get_fact(HostReport, variables=variables(settings))
    return report


def _place(server: Host, report: Report) -> tuple[str, int, int]:
    """Address, port and version of the database."""
    version, port = neighbours.postgres(groups.settings_of_server(server), report)
    return asked(server).address, port, version


def _is_known(report: Report) -> bool:
    """Whether the host is of a release that the deploy plans for."""
    return report.codename in RELEASES


def _answering(group: str) -> tuple[Host, Report] | None:
    """The host of a group and its answers; none if it is not in the run, or of no known release."""
    server = groups.server(group)
    if not server or not server.connected or not _is_known(report := ask(server)):
        return None
    return server, report


def reached(settings: Settings) -> Settings:
    """The settings of a host of Airflow, with the places of the database and of the cluster."""
    if settings.database_host:
        found = _answering("database")
        place = _place(*found) if found else (settings.database_host, 5432, min(_versions()))
        settings = settings.reaching(*place)
    if settings.cluster_host and (cluster := _answering("cluster")):
        settings = settings.model_copy(update={"cluster_address": asked(cluster[0]).node})
    return settings


def _versions() -> list[int]:
    return [each.postgres for each in RELEASES.values()]


def findings(settings: Settings, report: Report) -> Iterator[str]:
    """All reasons against this host of Airflow as one that others serve."""
    yield from _run(settings)
    if settings.database_host and (found := _answering("database")):
        yield from _about_database(settings, report, *found)
    if settings.cluster_host and (cluster := _answering("cluster")):
        yield from _about_cluster(settings, cluster[0])


def _about_database(
    settings: Settings, report: Report, server: Host, there: Report
) -> Iterator[str]:
    yield from _way(settings, host)
    if report.one("migrated") and not there.one("migrated"):
        yield (
            f"this host's Airflow has data, and {server.name} of the group database has none. The"
            " deploy moves none: leave the database where it is, or move it as"
            " inventories/README.md has it"
        )
    codename = report.codename
    version = settings.postgres.version
    own = RELEASES[codename].postgres if codename in RELEASES else version
    if version != own and not groups.settings_of_server(server).postgres.version:
        yield (
            f"{server.name} has PostgreSQL {version}, and the release of this host has clients of"
            f" {own}: choose hosts of one release, or give apt a source with"
            f" postgresql-client-{version}, such as apt.postgresql.org, and write postgres_version"
            f" = {version} for {server.name}"
        )


def _about_cluster(settings: Settings, server: Host) -> Iterator[str]:
    yield from _silence(host, server.name, settings.cluster_address, API_PORT)
    # Packets of pods leave the node with its address.
    address = settings.execution_api.host or asked(host).address
    yield from _silence(server, host.name, address, settings.execution_api.port)
    architecture, theirs = (asked(each).system.rpartition(" ")[2] for each in (host, server))
    if architecture != theirs and settings.worker.image is None:
        yield (
            f"{server.name} has the cluster and is {theirs}, and this host builds the worker image"
            f" for its own architecture, {architecture}: choose hosts of one, or write worker_image"
        )


def _silence(client: Host, name: str, address: str, port: int) -> Iterator[str]:
    """A sentence for each address of a host that does not even refuse a connection."""
    for silent in _route(client, address, port).all("silent"):
        yield (
            f"{client.name} gets no answer from {name} at {silent} port {port}: let it through the"
            " firewalls of both and between them"
        )


def _way(settings: Settings, client: Host) -> Iterator[str]:
    """The reasons against the way of a host of Airflow to the database."""
    ((name, port),) = settings.postgres.servers
    if not _addresses(client, name, port):
        yield (
            f"postgres_hosts: {client.name} knows no way to {name or 'the database'}: write a name"
            " or an address there by which Airflow's hosts reach the database's host"
        )
    elif name:
        yield from _silence(client, settings.database_host, name, port)


def _route(client: Host, name: str, port: int) -> Report:
    report: Report = client.get_fact(RouteReport, server=name, port=port)
    return report


def _addresses(client: Host, name: str, port: int) -> list[str]:
    """The addresses from which a host reaches the database."""
    return sorted({*_route(client, name, port).all("from")}) if name else []


def _run(settings: Settings) -> Iterator[str]:
    """Hosts that are not in this run, and options with which they would not wait for each other."""
    these = ", ".join(groups.servers())
    together = {each.name: each for each in groups.all_hosts()}
    # Of several hosts of Airflow, each has said this about them.
    if settings.members:
        together = {each.name: each for each in groups.servers().values()}
    else:
        for option in sorted(OUT_OF_STEP.intersection(sys.argv)):
            yield (
                f"{option} can't be used with the group {these}, whose host the others wait for:"
                " leave it out"
            )
    for name, each in together.items():
        if not each.connected:
            yield (
                f"{name} is not in this run: the hosts of the groups"
                f" {', '.join(groups.all_names())} are deployed together"
            )


def check(settings: Settings) -> HostSettings:
    """Return the settings of a host that serves others, completed by facts about it and Airflow's
    hosts.

    Raise DeployError with every finding and its cure, one a line, if the deploy can't succeed.
    """
    report = ask(host)
    holder = host.get_fact(Command, command=lock.other_holder(lock.take()))
    clients = [each for each in groups.airflow_hosts() if each.connected]
    has_database = "database" in settings.serves
    if holder:
        found = [lock.refusal(holder)]
    else:
        found = checks.of_serving(settings, report)
        if _is_known(report):
            found += neighbours.of_serving(settings, report)
        if report.one("installed"):
            found += _own_airflow(settings)
        found += _run(settings)
        if has_database and _is_known(report):
            reaching = settings.reaching(*_place(host, report))
            for each in clients:
                found += _way(reaching, each)
    checks.refuse(found)
    checks.tell(settings, report)
    own: Member = asked(host)
    place, addresses = None, set()
    if has_database:
        address, port, version = _place(host, report)
        place = (version, port)
        ((name, _),) = settings.reaching(address, port, version).postgres.servers
        addresses = {one for each in clients for one in _addresses(each, name, port)}
    return settings.for_release(
        report.codename,
        place,
        own_names=tuple(dict.fromkeys((*report.all("own_name"), *own.names))),
        architecture=report.one("architecture"),
        database_clients=tuple(sorted(addresses, key=_in_order)),
    )


def _own_airflow(settings: Settings) -> Iterator[str]:
    for group in settings.serves:
        cure = "remove that Airflow first"
        if group == "database":
            cure = (
                "if its database should stay here, remove that Airflow with keep_data=True first,"
                " as inventories/README.md has it"
            )
        yield (
            f"this host has an Airflow of its own, and the group {group} is for one without: {cure}"
        )


def _in_order(address: str) -> tuple[int, int]:
    """Addresses in their own order, those of IPv4 first."""
    found = ipaddress.ip_address(address)
    return found.version, int(found)
