"""A host that has nothing but the database of Airflow's hosts, or their cluster, or both.

It is ready before they begin: they wait for it.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.host import database, host_values
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
SHARED_PROGRAMS = {"accept.sh", "commands.py", "lib.py", "lib.sh", "surroundings.sh"}
PROGRAMS = {
    "database": {
        "database-logins.py",
        "host-certificate.py",
        "metrics.sh",
        "metrics.yaml",
        "own-addresses.sh",
        "postgres-certificate.sh",
        "postgres-cluster.sh",
        "postgres-make.sh",
        "postgres.sh",
    },
    "cluster": {
        "certificates.py",
        "cluster-addons.py",
        "cluster.sh",
        "containerd.sh",
        "containerd.toml",
        "download.sh",
        "kubeconfig.py",
        "load-units.sh",
        "minikube.sh",
        "offline-files.sh",
    },
}


def programs(settings: HostSettings) -> set[str]:
    """The names of the programs of this host."""
    return SHARED_PROGRAMS.union(*(PROGRAMS[group] for group in settings.serves))


def package_names(settings: HostSettings) -> list[str]:
    """The Debian packages of this host."""
    return [
        *("ca-certificates", "curl", "diffutils", "iproute2", "openssl", "python3"),
        *(database.packages(settings) if "database" in settings.serves else []),
        *(layout.NODE_PACKAGES if "cluster" in settings.serves else []),
    ]


@deploy("Serving host")
def prepare(settings: HostSettings) -> None:
    """The host has the packages, the directories and the programs that the other steps use."""
    packages(
        name="Install the Debian packages of a host that serves others (about a minute)",
        packages=package_names(settings),
        record=PACKAGES_RECORD,
    )
    for path, mode in DIRECTORIES.items():
        files.directory(name=f"Create {path}", path=path, user="root", group="root", mode=mode)
    host_values.install(settings, programs(settings))


@deploy("Serving host")
def note() -> None:
    """The next deploy and the removal know that Airflow's hosts have their database here."""
    run_unless(
        name="Record that Airflow's hosts have their database here",
        test=f"test -s {DATABASE_MADE}",
        commands=[f"echo 'of the group {members.GROUP}' >{DATABASE_MADE}"],
        already="it is noted",
    )


@deploy("Serving host")
def wait() -> None:
    """The hosts of Airflow continue when the hosts that serve them are ready."""
    members.in_step(name="Wait for the hosts of the groups database and cluster")
