"""Settings of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from tasks.layout import DATABASE, POSTGRES_PORT
from tasks.settings.reserved import POSTGRES_OPTIONS
from tasks.settings.types import (
    Certificate,
    CertificateAndKey,
    DatabaseLogin,
    DatabaseName,
    DatabaseServer,
    Line,
    PostgresOption,
    Section,
    host_and_port,
)

DEBIANS = ("provider", "version", "config")  # settings of a PostgreSQL on the host
# Further settings on the host of the group `database`, which others reach.
REACHED = ("certificate", "hosts", "ca_certificate")


class Postgres(Section):
    """PostgreSQL."""

    heading: ClassVar[str] = "PostgreSQL"

    provider: Literal["debian", "existing"] = Field(
        default="debian",
        description="Install and run `debian`'s PostgreSQL on the host, or use an `existing` one.",
    )
    version: int | None = Field(
        default=None,
        ge=15,  # before 15, every role could replace functions and operators in a database
        le=18,
        description="Major version of PostgreSQL; none uses Debian's own. With an existing one,"
        " the version of the client on the host, which may be newer than the server.",
    )
    config: dict[PostgresOption, Line] = Field(
        default={},
        description="Additional options of postgresql.conf; they override the deploy's own.",
    )
    hosts: list[DatabaseServer] = Field(
        default=[],
        description="Addresses or names of an existing PostgreSQL, each with `:PORT` if that is not"
        " 5432; of several, Airflow uses the one that accepts writes. With a group `database`, the"
        " name or address of its host; none uses the host's own address.",
    )
    database: DatabaseName = Field(
        default=DATABASE, description="Name of the database in an existing PostgreSQL."
    )
    owner_login: DatabaseLogin | None = Field(
        default=None,
        repr=False,
        description="Role that owns that database: `username`, and a `password`, or a client's"
        " `certificate` and `key` (PEM), or all three.",
    )
    dags_login: DatabaseLogin | None = Field(
        default=None,
        repr=False,
        description="Role of the processes that run the code of DAGs, in the same form.",
    )
    ca_certificate: Certificate | None = Field(
        default=None,
        description="Certificates (PEM) of the CA of an existing PostgreSQL, or of"
        " `postgres_certificate`; none trusts those that the host trusts.",
    )
    certificate: CertificateAndKey | None = Field(
        default=None,
        repr=False,
        description="Certificate and key of the PostgreSQL of the group `database`; none uses the"
        " one that its host makes.",
    )
    sslmode: Literal["verify-full", "verify-ca"] = Field(
        default="verify-full",
        description="How the certificate of an existing PostgreSQL is checked: `verify-ca` skips"
        " its name, for a CA that has no other server, as with Google Cloud SQL.",
    )

    def conflicts(self) -> Iterator[str]:
        """Options of the deploy's own, and settings that the provider needs or does not use."""
        yield from self._option_conflicts()
        if self.certificate:
            yield "postgres_certificate belongs to the host of a group database: leave it out"
        if self.is_debians:
            for name in self._given_beside(*DEBIANS, "certificate"):
                yield (
                    f"postgres_{name} belongs to an existing PostgreSQL: leave it out, or"
                    ' write postgres_provider = "existing"'
                )
            return
        needs = 'postgres_provider = "existing" needs it; write'
        if not self.hosts:
            yield f"postgres_hosts: {needs} the addresses of the PostgreSQL"
        if self.config:
            yield (
                "postgres_config has no meaning with an existing PostgreSQL, whose options are its"
                " admin's: leave it out"
            )
        if self.sslmode == "verify-ca" and self.ca_certificate is None:
            yield (
                'postgres_sslmode: "verify-ca" would accept every server with a certificate of a'
                " public CA: write postgres_ca_certificate"
            )
        for key, login in (
            ("postgres_owner_login", self.owner_login),
            ("postgres_dags_login", self.dags_login),
        ):
            if login is None:
                yield f"{key}: {needs} the role's username and password"
            else:
                yield from (f"{key}: {each}" for each in login.conflicts())
        logins = [each for each in (self.owner_login, self.dags_login) if each]
        if len(logins) > len({each.username for each in logins}):
            yield (
                "postgres_dags_login: the code of DAGs needs a role of its own, with fewer rights"
                " than the owner's: write another username"
            )

    def conflicts_of_group(self) -> Iterator[str]:
        """Conflicts if PostgreSQL is on the host of the group `database`."""
        if not self.is_debians:
            yield (
                "postgres_provider: the deploy sets the PostgreSQL of the group database up: leave"
                ' out "existing" with its settings, or the group'
            )
            return
        yield from self._option_conflicts("use postgres_certificate")
        for name in self._given_beside(*DEBIANS, *REACHED):
            yield f"postgres_{name} belongs to an existing PostgreSQL: leave it out"
        if len(self.hosts) > 1 or any(host_and_port(each, 0)[1] for each in self.hosts):
            yield (
                "postgres_hosts: the group database has one host, whose port the deploy chooses:"
                " write one name or address without a port"
            )
        if self.certificate:
            yield from self._certificate_conflicts(self.certificate)
        elif self.ca_certificate:
            yield (
                "postgres_ca_certificate: the host of the group database makes a CA of its"
                " own: leave it out, or write postgres_certificate too"
            )

    def _certificate_conflicts(self, certificate: CertificateAndKey) -> Iterator[str]:
        found = list(certificate.conflicts())
        yield from (f"postgres_certificate: {each}" for each in found)
        if not self.hosts:
            yield (
                "postgres_certificate: Airflow looks for the name by which it reaches the database:"
                " write one of the certificate's into postgres_hosts"
            )
        elif not found and not certificate.is_for(self.servers[0][0]):
            yield (
                f"postgres_certificate: certificate is not for {self.hosts[0]}, which is in"
                " postgres_hosts: write one with that name"
            )

    def _option_conflicts(
        self, tls: str = "PostgreSQL has no network here, so no TLS"
    ) -> Iterator[str]:
        for name in self.config:
            reason = POSTGRES_OPTIONS.get(name.lower())
            # A wrong file or cipher ends PostgreSQL at its next start, and a reload ignores it.
            if name.lower().startswith("ssl"):
                reason = tls
            if reason:
                yield f"postgres_config: the deploy itself decides {name}: {reason}"

    def _given_beside(self, *names: str) -> Iterator[str]:
        """The names of other settings that differ from their defaults."""
        for name, field in type(self).model_fields.items():
            if name not in names and getattr(self, name) != field.default:
                yield name

    @property
    def is_debians(self) -> bool:
        """Whether the deploy installs it on this host."""
        return self.provider == "debian"

    @property
    def servers(self) -> list[tuple[str, int]]:
        """Address and port of each server of an existing PostgreSQL."""
        return [host_and_port(each, POSTGRES_PORT) for each in self.hosts]

    @property
    def place(self) -> str:
        """The database and its servers, in words."""
        return f"{self.database} at {', '.join(self.hosts)}"
