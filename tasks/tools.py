"""What the deploy works with on the host, in a venv of its own: uv, which installs Airflow, and
what lists the packages of the worker image. Both are locked, with hashes."""

from __future__ import annotations

from pyinfra.operations import files

from tasks.operations import settled

REQUIREMENTS = "/opt/airflow/requirements"
UV = "/opt/airflow/uv"
# The system's certificate store, so that an organisation's own CA is trusted; copies instead of
# links, so that nothing in a venv shares its content with uv's cache.
UV_ENVIRONMENT = "UV_SYSTEM_CERTS=true UV_LINK_MODE=copy UV_NO_PROGRESS=true"


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
    write_lock("uv", "uv.txt")
    settled(
        name="Install uv",
        test=f"cmp -s {REQUIREMENTS}/uv.txt {UV}/installed.txt",
        commands=[
            f"rm -rf {UV} && python3 -m venv {UV}",
            "PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
            f" {UV}/bin/pip --quiet --disable-pip-version-check install --require-hashes"
            f" --only-binary :all: -r {REQUIREMENTS}/uv.txt",
            f"cp {REQUIREMENTS}/uv.txt {UV}/installed.txt",
        ],
        because="it is installed in the locked version",
    )


def install_listers() -> None:
    """In the same venv is what lists the packages of the worker image."""
    write_lock("what lists packages", "sbom.txt")
    settled(
        name="Install what lists the image's packages",
        test=f"cmp -s {REQUIREMENTS}/sbom.txt {UV}/installed-sbom.txt",
        commands=[
            f"{UV_ENVIRONMENT} {UV}/bin/uv pip install --quiet --python {UV}/bin/python"
            f" --only-binary :all: --require-hashes -r {REQUIREMENTS}/sbom.txt",
            f"cp {REQUIREMENTS}/sbom.txt {UV}/installed-sbom.txt",
        ],
        because="it is installed in the locked version",
    )
