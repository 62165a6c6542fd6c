"""Settings of the installation of Python packages, on the host and so for the worker image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from tasks.settings.types import (
    Certificate,
    DebianPackage,
    IndexName,
    PackageIndex,
    Section,
)


class Build(Section):
    """The installation of Python packages."""

    heading: ClassVar[str] = "Python packages"

    apt_packages: list[DebianPackage] = Field(
        default=[],
        description="Debian packages on the host, such as compilers and headers, with which"
        " `airflow_extra_requirements` without a wheel are built; they do not go into the image.",
    )
    indexes: dict[IndexName, PackageIndex] = Field(
        default={},
        repr=False,
        description="Package indexes, by name, as uv has them; one with `default` replaces the"
        " public one.",
    )
    ca_certificate: Certificate | None = Field(
        default=None,
        description="Certificates (PEM) of the CA of `build_indexes`, if the host does not"
        " trust it.",
    )

    def conflicts(self) -> Iterator[str]:
        """Indexes that uv would refuse, and logins that it could not tell apart."""
        if sum(index.default for index in self.indexes.values()) > 1:
            yield "build_indexes: only one can be the default: leave that out of the others"
        logins: dict[str, tuple[str, str]] = {}
        for name, index in self.indexes.items():
            if index.login is None:
                if index.username or index.password:
                    yield (
                        f"build_indexes: username and password of {name} belong together: write"
                        " both, or none"
                    )
            elif any(not part or set(part) & set(" \t\n\"'\\#") for part in index.login):
                yield (
                    f"build_indexes: the login of {name} has a blank, a quote, # or a backslash,"
                    " which netrc can't hold: choose another one"
                )
            elif logins.setdefault(index.host, index.login) != index.login:
                yield f"build_indexes: {index.host} has two logins: write the same for both"
        if self.ca_certificate and not self.indexes:
            yield "build_ca_certificate has no meaning without build_indexes: leave it out"

    @property
    def default_index(self) -> str:
        """The URL of the index that replaces the public one, empty if none does."""
        return next((index.url for index in self.indexes.values() if index.default), "")

    @property
    def has_login(self) -> bool:
        """Whether an index needs a login."""
        return any(index.login for index in self.indexes.values())
