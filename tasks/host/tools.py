"""What the deploy works with on the host, in a venv of its own: uv, which installs Airflow, and
what lists the packages of the worker image. Both are locked, with hashes."""

from __future__ import annotations

from pyinfra.operations import files

from tasks.layout import REQUIREMENTS, UV
from tasks.lib.operations import settled

# The system's certificate store, so that an organisation's own CA is trusted; copies instead of
# links, so that nothing in a venv shares its content with uv's cache.
UV_ENVIRONMENT = "UV_SYSTEM_CERTS=true UV_LINK_MODE=copy UV_NO_PROGRESS=true"
LOCK = f"{UV}/.lock"  # uv leaves it behind, and lets every user write to it


def write_lock(what: str, lock: str) -> None:
    """A lock file of the repository is on the host."""
    files.put(
        name=f"Write the lock file of {what}",
        src=f"files{REQUIREMENTS}/{lock}",
        dest=f"{REQUIREMENTS}/{lock}",
        mode="644",
    )


def install_uv() -> None:
    """The venv with uv stands."""
    _install(
        "uv",
        "uv.txt",
        "installed.txt",
        f"rm -rf {UV} && python3 -m venv {UV}",
        "PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
        f" {UV}/bin/pip --quiet --disable-pip-version-check install --require-hashes"
        f" --only-binary :all: -r {REQUIREMENTS}/uv.txt",
    )


def install_listers() -> None:
    """In the same venv is what lists the packages of the worker image."""
    _install(
        "what lists the image's packages",
        "sbom.txt",
        "installed-sbom.txt",
        f"{UV_ENVIRONMENT} {UV}/bin/uv pip install --quiet --python {UV}/bin/python"
        f" --only-binary :all: --require-hashes -r {REQUIREMENTS}/sbom.txt",
        f"rm -f {LOCK}",
    )


def _install(what: str, lock: str, record: str, *commands: str) -> None:
    """What a lock file names is in the venv; the record is a copy of it, made when it is."""
    write_lock(what, lock)
    wanted, installed = f"{REQUIREMENTS}/{lock}", f"{UV}/{record}"
    settled(
        name=f"Install {what}",
        test=f"cmp -s {wanted} {installed} && ! test -e {LOCK}",
        commands=[*commands, f"cp {wanted} {installed}"],
        because="it is installed in the locked version",
    )
