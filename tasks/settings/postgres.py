"""Settings of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from tasks.layout import DATABASE
from tasks.settings.deploys_own import POSTGRES_OPTIONS
from tasks.settings.types import (
    Certificate,
    DatabaseLogin,
    DatabaseName,
    Line,
    PostgresOption,
    Section,
    Server,
    host_and_port,
)

POSTGRES_PORT = 5432  # PostgreSQL's own, and Debian's first choice for a cluster

DEBIANS = ("provider", "version", "config")  # settings of a PostgreSQL on the host


class Postgres(Section):
    """PostgreSQL."""

    heading: ClassVar[str] = "PostgreSQL"

    provider: Literal["debian", "existing"] = Field(
        default="debian",
        description="Install and run `debian`'s PostgreSQL on the host, or use an `existing` one.",
    )
    version: int | None = Field(
        default=None,
        ge=15,  # before, every role could replace functions and operators in a database
        le=18,
        description="Major version of PostgreSQL; none uses Debian's own. With an existing one, of"
        " its client on the host, which may be newer than the server.",
    )
    config: dict[PostgresOption, Line] = Field(
        default={},
        description="Additional options of postgresql.conf; they override the deploy's own.",
    )
    hosts: list[Server] = Field(
        default=[],
        description="Addresses or names of an existing PostgreSQL, each with `:PORT` if that is not"
        " 5432. Of several, Airflow uses the one that may be written to.",
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
        description="Certificates (PEM) of the authority of an existing PostgreSQL; none trusts"
        " those that the host trusts.",
    )
    sslmode: Literal["verify-full", "verify-ca"] = Field(
        default="verify-full",
        description="How the certificate of an existing PostgreSQL is checked: `verify-ca` leaves"
        " out its name, for an authority that has no other server, as with Google Cloud SQL.",
    )

    def conflicts(self) -> Iterator[str]:
        """Options of the deploy's own, and settings that the provider needs or does not use."""
        for name in self.config:
            if reason := POSTGRES_OPTIONS.get(name.lower()):
                yield f"postgres_config: the deploy itself decides {name}: {reason}"
        if self.is_debians:
            for name, field in type(self).model_fields.items():
                if name not in DEBIANS and getattr(self, name) != field.default:
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
                " public authority: write postgres_ca_certificate"
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

    @property
    def is_debians(self) -> bool:
        """Whether the deploy installs it on the host."""
        return self.provider == "debian"

    @property
    def servers(self) -> list[tuple[str, int]]:
        """Address and port of each server of an existing PostgreSQL."""
        return [host_and_port(each, POSTGRES_PORT) for each in self.hosts]

    @property
    def place(self) -> str:
        """The database and its servers, in words."""
        return f"{self.database} at {', '.join(self.hosts)}"
