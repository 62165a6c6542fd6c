"""The tools that the deploy uses on the host, in a virtual environment of their own: uv, which
installs Airflow, and the programs that list the worker image's packages. Both are locked, with
hashes."""

from __future__ import annotations

from tasks.layout import REQUIREMENTS
from tasks.lib import whole_file
from tasks.lib.operations import ensure


def write_lock(product: str, lock: str) -> None:
    """The host has a lock file of the repository."""
    whole_file.put(
        name=f"Write the lock file of {product}",
        src=f"files{REQUIREMENTS}/{lock}",
        dest=f"{REQUIREMENTS}/{lock}",
        mode="644",
    )


def install_uv() -> None:
    """uv is in the virtual environment."""
    _install("uv", "uv")


def install_listers() -> None:
    """The programs that list the worker image's packages are in the virtual environment."""
    _install("the programs that list the image's packages", "sbom")


def _install(product: str, lock: str) -> None:
    write_lock(product, f"{lock}.txt")
    ensure(
        name=f"Install {product}",
        program="tools.sh",
        args=[lock],
        already="the locked version is installed",
    )
