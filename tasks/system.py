"""The ground that the rest stands on: Debian packages, the airflow user, directories."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files, server

from tasks.operations import debian_packages
from tasks.settings import MEMORY, Settings

# What a node needs that runs Kubernetes itself (minikube's driver none):
# https://minikube.sigs.k8s.io/docs/drivers/none/
NODE_PACKAGES = [
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "ethtool",
    "iptables",
    "kmod",
    "runc",
    "socat",
]
# What builds the worker image.
IMAGE_PACKAGES = [
    "buildah",
    "mmdebstrap",
    "netavark",  # buildah of Debian 13 does not start without it, though it only recommends it
]


def packages(settings: Settings) -> list[str]:
    """Every Debian package that the deploy installs, by name."""
    names = [
        "ca-certificates",
        "curl",
        "diffutils",  # kubectl diff calls it
        "git",  # GitDagBundle calls it
        "iproute2",
        "openssh-client",  # git calls it
        f"postgresql-{settings.postgres_version}",
        "python3",
        "python3-venv",
    ]
    if settings.node_is_host:
        names += NODE_PACKAGES
    if settings.worker_image is None:
        names += IMAGE_PACKAGES
    if settings.worker_registry:
        names.append("skopeo")  # asks the registry, and copies the image there
    return names


PACKAGES_RECORD = f"{MEMORY}/packages"  # those that came with the deploy

# path: (owner, group, mode)
DIRECTORIES = {
    "/etc/airflow": ("root", "airflow", "750"),
    "/etc/airflow/secrets": ("root", "root", "700"),
    "/opt/airflow": ("root", "root", "755"),
    "/opt/airflow/dags": ("root", "airflow", "2775"),
    "/opt/airflow/plugins": ("root", "airflow", "2755"),
    "/var/lib/airflow": ("airflow", "airflow", "750"),
    # What the deploy remembers; root writes there, so nobody else may plant a link in it.
    MEMORY: ("root", "root", "700"),
    "/var/log/airflow": ("airflow", "airflow", "2750"),
}


@deploy("System")
def prepare(settings: Settings) -> None:
    """The host has the packages, the user and the directories that the other tasks use."""
    debian_packages(
        name="Install Debian packages (about a minute the first time)",
        packages=packages(settings),
        record=PACKAGES_RECORD,
    )
    server.group(
        name="Create group airflow", group="airflow", gid=settings.airflow_uid, system=True
    )
    server.user(
        name="Create user airflow",
        user="airflow",
        uid=settings.airflow_uid,
        group="airflow",
        home="/var/lib/airflow",
        shell="/usr/sbin/nologin",
        comment="Apache Airflow",
        ensure_home=False,
        system=True,
    )
    for path, (owner, group, mode) in DIRECTORIES.items():
        files.directory(name=f"Create {path}", path=path, user=owner, group=group, mode=mode)
