"""The requirements on a PostgreSQL elsewhere, and the findings about it.

It is asked with psql from the host. Before the first deploy a host may have none: then preflight
finds out only whether a server answers with the right certificate, and `ask` asks the rest once
Debian's client is installed, before anything else changes. One of the group `database` is ready
when `ask` asks it; preflight looks only at the data in it, if it has been ready before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator
from io import StringIO
from pathlib import Path

from pyinfra import host
from pyinfra.api import deploy, operation

from tasks.host import database
from tasks.layout import CONTROL_USER, DAGS_USER, MIGRATED, PACKAGES_RECORD, SECRETS
from tasks.lib import groups, terminal
from tasks.lib.operations import packages, refused
from tasks.lib.shell import assignments
from tasks.preflight.members import short
from tasks.preflight.questions import HostReport, Report
from tasks.settings import HostSettings, Settings

PROGRAM = Path(__file__).parent / "database.sh"
MIN_VERSION = 15  # as for Debian's
MAX_SKEW = 60  # seconds
LOGINS = {CONTROL_USER: "owner", DAGS_USER: "dags"}  # how the questions call them
KEYS = {CONTROL_USER: "postgres_owner_login", DAGS_USER: "postgres_dags_login"}
WORDS = " The answer was: "
ADMIN = "inventories/database.sql has the statements of an admin"
# Messages of libpq and PostgreSQL, each with its cure.
REFUSALS = {
    r"password authentication failed|empty password|no password supplied": (
        "{key}: write the right username and password"
    ),
    r"does not match host name|hostname mismatch|IP address mismatch": (
        "postgres_hosts: write a name that is in the server's certificate"
    ),
    r"certificate verify failed|certificate signature|self.signed|issuer certificate": (
        "postgres_ca_certificate: write the certificate of the CA that signed the server's"
    ),
    r"does not support SSL|SSL is not enabled": "its admin should turn TLS on (ssl = on)",
    r"client certificate|certificate authentication failed": (
        "{key}: write the client's certificate and key that its admin wants"
    ),
    r"no pg_hba.conf entry": (
        "{key}: its admin should admit this login from this host over TLS (hostssl in pg_hba.conf)"
    ),
    r"permission denied for database": (
        "{key}: its admin should run `grant connect on database` for this role"
    ),
    # The role chose a library that is loaded with each session, and can't undo that.
    r"could not access file": (
        "{key}: its admin should run `alter role … reset all` for this role, and the same with `in"
        " database …`, since code of DAGs may have given it settings"
    ),
    r"database .* does not exist": f"postgres_database: {ADMIN} that make it",
    r"read-only|read-write": "postgres_hosts: name the primary, which may be written to, as well",
    r"too many (clients|connections)": "its admin should allow more connections",
    # Last, since one of several servers may be away.
    r"could not translate host|Connection refused|timeout expired|No route to host|timed out": (
        "postgres_hosts: write where it listens, and open the firewall to this host"
    ),
}


# The same about one of the group `database`.
REFUSALS_OF_GROUP = {
    r"password authentication failed|empty password|no password supplied": (
        "deploy again, which gives both roles the passwords of their files"
    ),
    r"does not match host name|hostname mismatch|IP address mismatch": REFUSALS[
        "does not match host name|hostname mismatch|IP address mismatch"
    ],
    r"no pg_hba.conf entry": (
        "this host's packets must arrive there with an address of its own, without NAT between"
    ),
    r"could not translate host|Connection refused|timeout expired|No route to host|timed out": (
        "postgres_hosts: write a name or an address there that this host reaches, and open the"
        " firewall between them"
    ),
}


class DatabaseReport(HostReport):
    """The answers of an existing PostgreSQL, in one round trip; its files are standard input."""

    def command(self, variables: str) -> str:
        """The questions, below the assignments of the variables that they use."""
        return variables + PROGRAM.read_text()


def variables(settings: Settings) -> str:
    """Assignments of the variables that the questions use; nothing secret is in them."""
    values = {
        "addresses": "\n".join(f"{name} {port}" for name, port in settings.postgres.servers),
        "sslmode": settings.postgres.sslmode,
        "owner": database.words(database.remote(settings, CONTROL_USER, "owner", "authority")),
        "dags": database.words(database.remote(settings, DAGS_USER, "dags", "authority")),
        "dags_role": database.role(settings, DAGS_USER),
        "fernet_key": f"{SECRETS}/fernet-key",
        "migrated": MIGRATED,
    }
    return assignments(values)


def answers(settings: Settings) -> Report:
    """The answers of the PostgreSQL of the settings; none if there are no logins to it yet."""
    if not (text := files(settings)):
        return Report({})
    report: Report = host.get_fact(
        DatabaseReport, variables=variables(settings), _stdin=StringIO(text)
    )
    return report


def files(settings: Settings) -> str:
    """The files that the questions need, each below its name: both logins, and the authority."""
    if settings.database_host:
        if not (found := groups.printed("database")):
            return ""
        if not database.has_own_authority(settings):
            found.pop("authority", None)
    else:
        found = {
            name: database.login_file(database.login(settings, user))
            for user, name in LOGINS.items()
        }
    if authority := settings.postgres.ca_certificate:
        found["authority"] = f"{authority}\n"
    return "".join(f"# {name}\n{text}" for name, text in found.items())


def findings(
    settings: Settings, report: Report, names: Collection[str] = (), is_first: bool = True
) -> Iterator[str]:
    """All reasons against the database, each with its cure.

    `names` has those of all hosts of this Airflow if there are several, and `is_first` says whether
    this is the first of them.
    """
    if report.one("no_client"):
        yield from _without_client(settings, report)
        return
    refused = {user: report.one(f"refused_{name}") for user, name in LOGINS.items()}
    # If the login is not the reason, both fail in the same way.
    said = set()
    for user, reason in refused.items():
        sentence = _refusal(settings, user, reason)
        if reason and (cure := sentence.partition(WORDS)[0]) not in said:
            said.add(cure)
            yield sentence
    if report.values and not refused[CONTROL_USER]:
        yield from _server(settings, report)
        yield from _roles(settings, report)
        yield from _data(settings, report, {short(name) for name in names}, is_first)


def findings_of_group(
    settings: Settings, report: Report, names: Collection[str], is_first: bool
) -> Iterator[str]:
    """The reasons against the data in one of the group `database`, where it answers: the run itself
    cures the rest, and asks again."""
    if report.one("version"):
        yield from _data(settings, report, {short(name) for name in names}, is_first)


def _without_client(settings: Settings, report: Report) -> Iterator[str]:
    if not report.all("reached"):
        yield _refusal(settings, CONTROL_USER, "Connection refused, or no answer for 5 seconds")
    elif reason := report.one("tls"):
        yield _refusal(settings, CONTROL_USER, reason)


def _refusal(settings: Settings, user: str, reason: str) -> str:
    """The sentence about a login, or a connection, that failed."""
    refusals, other = REFUSALS, "{key}: write a login that the database admits"
    if settings.database_host:
        refusals, other = REFUSALS_OF_GROUP, database.cure(settings)
    known = (cure for said, cure in refusals.items() if re.search(said, reason, re.IGNORECASE))
    cure = next(known, other)
    about = f" as {database.role(settings, user)}" if "{key}" in cure else ""
    return (
        f"the database {settings.postgres.place} can't be reached{about}:"
        f" {cure.format(key=KEYS[user])}.{WORDS}{reason.strip()}"
    )


def _server(settings: Settings, report: Report) -> Iterator[str]:
    version = int(report.one("version")) // 10000
    # The deploy installs the client of the setting.
    client = max(int(report.one("client")), settings.postgres.version or 0)
    if version < MIN_VERSION:
        yield (
            f"the database {settings.postgres.place} is of PostgreSQL {version}: at least"
            f" {MIN_VERSION} is needed, since earlier ones let every role replace functions in it"
        )
    elif version > client:
        yield (
            f"postgres_version: the server is PostgreSQL {version}, and the host's pg_dump {client}"
            f" can't back that up: give apt a source with postgresql-client-{version}, such as"
            f" apt.postgresql.org, and write {version}"
        )
    if (encoding := report.one("encoding")) != "UTF8":
        yield (
            f"the database {settings.postgres.place} has the encoding {encoding}: Airflow needs"
            f" UTF8; {ADMIN} that make one"
        )
    if report.one("no_public"):
        yield (
            f"the database {settings.postgres.place} has no schema public, where Airflow has its"
            " tables: run `create schema public` as its owner"
        )
    is_owner = report.one("owner") == database.role(settings, CONTROL_USER)
    if is_owner and (whose := report.one("public_of")):
        yield (
            f"the schema public of {settings.postgres.place} belongs to {whose}: an admin should"
            " run `alter schema public owner to pg_database_owner` in it"
        )
    skew = int(report.one("clock")) - int(report.one("time"))
    if abs(skew) > MAX_SKEW:
        yield (
            f"the clock of the database's server is {abs(skew)} s"
            f" {'ahead of' if skew > 0 else 'behind'} the host's, and Airflow compares them: set"
            " the wrong one, and keep both right"
        )
    needed = database.connections(len(settings.members))
    for answer in report.all("limit"):
        number, whose = answer.split(maxsplit=1)
        if int(number) < needed:
            yield (
                f"{whose} allows {number} connections, and Airflow needs up to {needed}:"
                " an admin of the database should raise that limit"
            )


def _roles(settings: Settings, report: Report) -> Iterator[str]:
    owner, dags = (database.role(settings, user) for user in (CONTROL_USER, DAGS_USER))
    if (there := report.one("owner")) != owner:
        yield (
            f"postgres_owner_login: the database {settings.postgres.place} belongs to {there}, not"
            f' to {owner}: an admin should run `alter database "{settings.postgres.database}" owner'
            f' to "{owner}"`'
        )
    if report.one("dags_missing"):
        yield (
            f"postgres_dags_login: {settings.postgres.place} has no role {dags}: {ADMIN} that make"
            " it"
        )
    for name in report.all("powerful"):
        yield (
            f"the role {name} may do more than Airflow needs: an admin should run `alter role"
            f' "{name}" nosuperuser nocreatedb nocreaterole noreplication nobypassrls`'
        )
    for name in report.all("dags_member"):
        yield (
            f"postgres_dags_login: the role {dags} is a member of {name}, and so has rights that"
            f' the code of DAGs must not have: an admin should run `revoke "{name}" from "{dags}"`'
        )
    # Both limits may be higher.
    least = database.connections_of_dags(len(settings.members))
    others = database.connections(len(settings.members)) - least
    server = [each.split()[0] for each in report.all("limit") if each.endswith(" the server")]
    most = max(least, int(server[0]) - others) if server else least
    if (limit := report.one("dags_limit")) and not least <= int(limit) <= most:
        yield (
            f"the role {dags} may have {limit if int(limit) >= 0 else 'all'} connections: the code"
            f" of DAGs needs up to {least}, and with more than {most} it could stop the scheduler."
            f' An admin should run `alter role "{dags}" connection limit {least}`'
        )
    if report.one("dags_creates"):
        yield (
            f"postgres_dags_login: the role {dags} may create things in the schema public, which"
            " others would use: run `revoke create on schema public from public` and `… from"
            f' "{dags}"` as the owner of the schema'
        )


def _data(
    settings: Settings, report: Report, names: Collection[str], is_first: bool
) -> Iterator[str]:
    has_schema, has_data = bool(report.one("schema")), bool(report.one("migrated"))
    strangers, alive = (_others(report.one(kind), names) for kind in ("strangers", "alive"))
    if has_data and not has_schema and settings.database_host:
        yield (
            f"this host's Airflow has data, and the database of {settings.database_host} is empty."
            " The deploy moves none: leave the database where it is, or move it as"
            f" inventories/README.md has it. If it was lost, delete {MIGRATED} on Airflow's hosts"
            " and deploy; then `sudo airflow-restore` on the first of them brings back a backup"
        )
    elif has_data and not has_schema:
        yield (
            f"postgres_provider: this host's Airflow has data, and the database"
            f" {settings.postgres.place} is empty. The deploy moves none: write the right database,"
            " or copy the data there first, as inventories/README.md has it"
        )
    if has_schema and (has_data or not is_first) and strangers:
        yield (
            f"the Airflow of {strangers} runs with the database {settings.postgres.place} as well:"
            " write this host's own, or stop the other one with"
            " `systemctl disable --now airflow.target` and wait a minute"
        )
    if has_schema and not has_data and is_first:
        if not report.one("fernet_key"):
            yield (
                f"the database {settings.postgres.place} is that of another Airflow: choose an"
                " empty one. If this host should replace that one, bring its"
                f" {SECRETS}/fernet-key here first, as root's, with mode 600"
                + (". Of several hosts, name one first that has it" if names else "")
            )
        elif alive:
            yield (
                f"the Airflow of {alive} runs with the database {settings.postgres.place}: stop"
                " it there, with `systemctl disable --now airflow.target`, and wait a minute"
            )


def _others(hostnames: str, names: Collection[str]) -> str:
    """The hosts of a list that have none of these names."""
    return ", ".join(each for each in hostnames.split(", ") if short(each) not in names)


@deploy("Database")
def prepare(settings: HostSettings) -> None:
    """A PostgreSQL elsewhere was asked before anything but its client was installed."""
    if settings.postgres.is_debians:
        return
    packages(
        name="Install PostgreSQL's client",
        packages=database.packages(settings),
        record=PACKAGES_RECORD,
    )
    ask(name="Check the existing database", settings=settings)


@operation(is_idempotent=False)
def ask(settings: HostSettings) -> Generator[str, None, None]:
    """
    Fail with each reason against the database of the settings.

    Before a host has psql, only the run itself can ask: the plan finds nothing.

    + settings: with a PostgreSQL elsewhere
    """
    names = settings.own_names if settings.members else ()
    said = findings(settings, answers(settings), names, settings.is_first)
    found = [terminal.printable(each) for each in said]
    if not found:
        host.noop("it answers, and both roles have the rights that they need")
        return
    yield refused(*found)
