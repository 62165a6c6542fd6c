"""The tools that the deploy uses on the host, in a virtual environment of their own: uv, which
installs Airflow, and the programs that list the worker image's packages. Both are locked, with
hashes."""

from __future__ import annotations

import json
from io import StringIO

from pydantic import SecretStr
from pyinfra.operations import files

from tasks.layout import PACKAGE_AUTHORITY, PACKAGE_INDEXES, PACKAGE_LOGINS, REQUIREMENTS
from tasks.lib import whole_file
from tasks.lib.operations import ensure, secret_file
from tasks.settings import HostSettings
from tasks.settings.build import Build


def write_lock(product: str, lock: str) -> None:
    """The host has a lock file of the repository."""
    whole_file.put(
        name=f"Write the lock file of {product}",
        src=f"files{REQUIREMENTS}/{lock}",
        dest=f"{REQUIREMENTS}/{lock}",
        mode="644",
    )


def install_uv(settings: HostSettings) -> None:
    """uv is in the virtual environment, and knows the indexes of the inventory."""
    _write_indexes(settings.build)
    _install(settings, "uv", "uv")


def _write_indexes(build: Build) -> None:
    """uv and pip have the inventory's indexes, logins and authority, and no earlier ones."""
    listed = "".join(
        f"[[index]]\nname = {json.dumps(name)}\nurl = {json.dumps(index.url)}\n"
        f"default = {json.dumps(index.default)}\n"
        for name, index in build.indexes.items()
    )
    whole_file.put(
        name="Write the package indexes",
        src=StringIO(f"# Written by the deploy of Airflow (build_indexes).\n{listed}"),
        dest=PACKAGE_INDEXES,
        mode="644",
    )
    if build.ca_certificate:
        whole_file.put(
            name="Write the CA of the package indexes",
            src=StringIO(build.ca_certificate),
            dest=PACKAGE_AUTHORITY,
            mode="644",
        )
    if build.has_login:
        logins = {index.host: index.login for index in build.indexes.values() if index.login}
        lines = [f"machine {at} login {who} password {p}" for at, (who, p) in logins.items()]
        secret_file(
            name="Write the logins of the package indexes",
            path=PACKAGE_LOGINS,
            content=SecretStr("\n".join(lines)),
        )
    else:
        files.file(name="Remove the logins of package indexes", path=PACKAGE_LOGINS, present=False)


def install_listers(settings: HostSettings) -> None:
    """The programs that list the worker image's packages are in the virtual environment."""
    _install(settings, "the programs that list the image's packages", "sbom")


def _install(settings: HostSettings, product: str, lock: str) -> None:
    write_lock(product, f"{lock}.txt")
    ensure(
        name=f"Install {product}",
        program="tools.sh",
        args=[lock, settings.python],
        already="the locked version is installed",
    )
