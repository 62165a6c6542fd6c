"""A host that has nothing but the database of Airflow's hosts.

It is ready before they begin: they wait for it.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.host import database, environment
from tasks.layout import DATABASE_MADE, PACKAGES_RECORD
from tasks.lib import members
from tasks.lib.operations import packages, run_unless
from tasks.settings import HostSettings

DIRECTORIES = {
    "/etc/airflow": "755",
    layout.TLS: "755",
    layout.LIB: "755",
    layout.STATE: "700",
    layout.TEMPORARY: "700",
}
# Of the deploy's programs, those that have something to do there, and their parts.
PROGRAMS = {
    "accept.sh",
    "certificate.sh",
    "database-logins.py",
    "host_values.py",
    "lib.sh",
    "metrics.sh",
    "metrics.yaml",
    "postgres-certificate.sh",
    "postgres-cluster.sh",
    "postgres-make.sh",
    "postgres.sh",
    "surroundings.sh",
}


@deploy("Database host")
def prepare(settings: HostSettings) -> None:
    """The host has the packages, the directories and the programs that the other steps use."""
    packages(
        name="Install the Debian packages of a database (about a minute the first time)",
        packages=[
            *("curl", "diffutils", "iproute2", "openssl", "python3"),
            *database.packages(settings),
        ],
        record=PACKAGES_RECORD,
    )
    for path, mode in DIRECTORIES.items():
        files.directory(
            name=f"Create {path} for the database", path=path, user="root", group="root", mode=mode
        )
    environment.install(settings, PROGRAMS)


@deploy("Database host")
def note() -> None:
    """The next deploy and the removal know that Airflow's hosts have their database here."""
    run_unless(
        name="Note whose database this is",
        test=f"test -s {DATABASE_MADE}",
        commands=[f"echo 'of the group {members.GROUP}' >{DATABASE_MADE}"],
        already="it is noted",
    )


@deploy("Database host")
def wait() -> None:
    """The hosts of Airflow go on when the database is ready."""
    members.in_step(name="Wait for the database")
