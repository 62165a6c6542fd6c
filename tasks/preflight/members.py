"""The requirements on several hosts that are one Airflow, and the findings about them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pyinfra import host
from pyinfra.api.host import Host

from tasks.layout import (
    ADDRESS_CONFIG,
    BACKUP_KEY,
    HOST_ENV,
    PODS_AUTHORITY,
    SECRETS,
    SHARED_AUTHORITY,
    SHARED_SECRETS,
    SHARED_USERS,
)
from tasks.lib import members
from tasks.lib.shell import assignments
from tasks.preflight.questions import HostReport, Report, as_function
from tasks.settings import SETTINGS, Settings

PROGRAM = Path(__file__).with_name("members.sh")
MAX_SKEW = 10  # seconds, as Airflow allows it between the maker of a token and its reader
# Settings of the web page, which people may reach in another way on each host. But its names are
# those of all: each host's authority is limited to them, and people import only one.
OF_ONE_HOST = {"web_host", "web_certificate"}
# Options with which pyinfra does not run each operation on all hosts before the next one.
OUT_OF_STEP = {"--serial", "--no-wait"}
# The files that replace those of others. The certificate is not among them: before it ends, each
# host makes it again from the authority's key.
SHARED = [
    each
    for each in (*SHARED_SECRETS, *SHARED_AUTHORITY, *SHARED_USERS, BACKUP_KEY)
    if each != PODS_AUTHORITY
]


class Shared(NamedTuple):
    """A file that all hosts should have the same."""

    made: int  # seconds; copies of an earlier deploy do not say it, and have 0
    digest: str  # of it and of the host's fernet keys


class Member(NamedTuple):
    """A host of several that are one Airflow, as it is."""

    hostname: str
    names: tuple[str, ...]  # all of its names, and its address
    address: str  # at which others reach it
    node: str  # its address as a node of minikube
    system: str  # release and architecture
    ahead: float  # seconds that its clock is ahead of this machine's
    # In the network of the virtual address, if there is one.
    interface: str = ""
    link_address: str = ""
    # The virtual address is the host's own, known to its keepalived, taken by another machine, or,
    # without a word, free.
    virtual: str = ""
    keys: tuple[str, ...] = ()  # digests of its fernet keys; it encrypts with the first one
    runs: bool = False  # whether its Airflow does
    database: str = ""  # the name of the database with which Airflow works
    servers: frozenset[str] = frozenset()  # those that have it
    shared: Mapping[str, Shared] = MappingProxyType({})  # by path


class MemberReport(HostReport):
    """All answers of a member, in one round trip."""

    def command(self, virtual_address: str) -> str:
        """The questions, also about a virtual address if there is one."""
        given = {
            "address_config": ADDRESS_CONFIG,
            "fernet_key": f"{SECRETS}/fernet-key",
            "host_env": HOST_ENV,
            "shared": " ".join(SHARED),
            "virtual_address": virtual_address,
        }
        functions = as_function("own-name.sh") + as_function("own-addresses.sh")
        return assignments(given) + functions + PROGRAM.read_text()


def ask(virtual_address: str | None = None) -> dict[str, Member]:
    """Each host of this host's Airflow by its name in the inventory, except those that are not in
    the run."""
    return {each.name: asked(each, virtual_address) for each in members.fellows() if each.connected}


def asked(member: Host, virtual_address: str | None = None) -> Member:
    """A host of the inventory, as it is."""
    report: Report = member.get_fact(MemberReport, virtual_address=virtual_address or "")
    shared = (line.split() for line in report.all("shared"))
    return Member(
        report.one("hostname"),
        tuple(report.all("name")),
        report.one("address"),
        report.one("node"),
        report.one("system"),
        float(report.one("ahead") or 0),
        report.one("interface"),
        report.one("link_address"),
        report.one("virtual"),
        tuple(report.all("key")),
        bool(report.one("runs")),
        report.one("database"),
        frozenset(report.all("server")),
        {path: Shared(int(made), digest) for path, made, digest in shared},
    )


def findings(found: Mapping[str, Member]) -> Iterator[str]:
    """All reasons against this host as a part of one Airflow, each with its cure."""
    if not (names := members.names()):
        return
    for option in sorted(OUT_OF_STEP.intersection(sys.argv)):
        yield (
            f"{option} can't be used with the group {members.GROUP}: its hosts wait for each other;"
            " leave it out"
        )
    for name in names:
        if name not in found:
            yield (
                f"{name} of the group {members.GROUP} is not in this run: its hosts are deployed"
                " together. If it is gone for good, take it out of the inventory"
            )
    hostnames = Counter(short(each.hostname) for each in found.values())
    for hostname in (each for each, count in hostnames.items() if count > 1):
        yield (
            f"several hosts of the group {members.GROUP} have the name {hostname}, by which Airflow"
            " tells them apart: give each another one with hostnamectl"
        )
    if host.name in found and names[0] in found:
        yield from _differences(names[0], found[names[0]], found[host.name])
    if host.name in found:
        yield from _keys(found, names)


def address_findings(settings: Settings, found: Mapping[str, Member]) -> Iterator[str]:
    """All reasons against the virtual address, as this host sees it, each with its cure."""
    address, own = settings.web.virtual_address, found.get(host.name)
    if not address or not own:
        return
    if own.virtual == "own":
        yield (
            f"web_virtual_address: {address} is this host's own address, and does not move: choose"
            " another one in its network, or take it off the host"
        )
    elif not own.link_address:
        yield (
            f"web_virtual_address: {address} is in no network of this host (`ip route`): choose a"
            " free address of a network in which all hosts of the group are"
        )
    elif own.virtual == "taken" and "known" not in (each.virtual for each in found.values()):
        yield (
            f"web_virtual_address: another machine has {address} already, and answers: choose an"
            " address that nobody has"
        )


def database_findings(settings: Settings, found: Mapping[str, Member]) -> Iterator[str]:
    """The reason against another database, if several hosts would go there one after the other.

    A server of a group `database` may have another address: it is the same one.
    """
    if settings.postgres.is_debians or settings.database_host or host.name not in found:
        return
    own = found[host.name]
    servers = {name for name, _ in settings.postgres.servers}
    is_another = own.database != settings.postgres.database or own.servers.isdisjoint(servers)
    several_run = own.runs and sum(each.runs for each in found.values()) > 1
    if several_run and own.database and is_another:
        yield (
            f"this host's Airflow works with the database {own.database} of"
            f" {', '.join(sorted(own.servers))}, and the inventory names another one. The hosts"
            " would go there one by one, and the same tasks would run twice: run"
            " `systemctl stop airflow.target` on each host first"
        )


def short(hostname: str) -> str:
    """The name without its domain, which not all hosts know of themselves."""
    return hostname.partition(".")[0]


def _keys(found: Mapping[str, Member], names: Iterable[str]) -> Iterator[str]:
    """The first host's files replace those of the others, also if it comes back with old ones.

    During a rotation it has the key with which another one encrypts, and each file that differs is
    newer there. After a restore no other one runs.
    """
    own = found[host.name]
    first = next((name for name in names if name in found and found[name].keys), host.name)
    if own.runs and own.keys and own.keys[0] not in found[first].keys:
        yield (
            f"this host's Airflow runs, and {first} does not have its fernet-key, which would be"
            " replaced: what is encrypted with it would be lost. List the host with the right"
            f" keys first in the group {members.GROUP}, and run"
            " `systemctl disable --now airflow.target` on the other"
        )
    elif own.runs and (newer := [*_newer(own.shared, found[first].shared)]):
        yield (
            f"this host's Airflow runs, and {', '.join(newer)} differs here from that of {first},"
            " which is older and would replace it. If that host came back with old files, list it"
            f" behind this one in the group {members.GROUP}. If its files are the right ones, run"
            " `systemctl stop airflow.target` here, and deploy"
        )


def _newer(own: Mapping[str, Shared], theirs: Mapping[str, Shared]) -> Iterator[str]:
    """The files that differ and were made later here."""
    for path in sorted(own.keys() & theirs.keys()):
        is_older = 0 < theirs[path].made < own[path].made
        if is_older and theirs[path].digest != own[path].digest:
            yield path


def _differences(first: str, theirs: Member, own: Member) -> Iterator[str]:
    given: list[dict[str, Any]] = [
        {key: value for key, value in each.data.dict().items() if key in SETTINGS}
        for each in (host.inventory.get_host(first), host)
    ]
    for key in sorted({*given[0], *given[1]} - OF_ONE_HOST):
        if given[0].get(key) != given[1].get(key):
            yield (
                f"{key} differs from that of {first}: give all hosts of the group"
                f" {members.GROUP} the same, in group_data or in a variable of the inventory"
            )
    if own.system != theirs.system:
        yield (
            f"this host is {own.system}, and {first} is {theirs.system}: their Airflow would have"
            " other packages; choose hosts of one release and one architecture"
        )
    skew = own.ahead - theirs.ahead
    if abs(skew) > MAX_SKEW:
        yield (
            f"the clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of"
            f" {first}, and Airflow refuses tokens of another time: keep both right with"
            " systemd-timesyncd or chrony"
        )
