"""The programs that come from the internet or the offline folder, each with its checksum."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from tasks.settings import Settings

OFFLINE_LOOK = r"find . -type f -printf '%p %s %T@\n' | sort | sha256sum"


class Program(NamedTuple):
    """A program with its pinned checksum. An offline folder has its own checksums in SHA256SUMS."""

    name: str
    url: str
    sha256: str
    is_archive: bool = False  # the program is a member of the file

    @property
    def file(self) -> str:
        """The name of the file, in the offline folder too."""
        return self.url.rpartition("/")[2]

    @property
    def host(self) -> str:
        """The name of the server that has it."""
        return urlsplit(self.url).hostname or ""


def kubectl(settings: Settings) -> Program:
    """The Kubernetes command-line client."""
    return Program(
        "kubectl",
        f"https://dl.k8s.io/release/v{settings.kubernetes.version}/bin/linux/amd64/kubectl",
        settings.kubernetes.kubectl_sha256,
    )


def minikube(settings: Settings) -> Program:
    """The program that installs and starts the cluster."""
    return Program(
        "minikube",
        "https://storage.googleapis.com/minikube/releases/"
        f"v{settings.minikube.version}/minikube-linux-amd64",
        settings.minikube.sha256,
    )


def crictl(settings: Settings) -> Program:
    """The container runtime's client, which minikube's driver none calls."""
    version = settings.minikube.crictl_version
    return Program(
        "crictl",
        "https://github.com/kubernetes-sigs/cri-tools/releases/download/"
        f"v{version}/crictl-v{version}-linux-amd64.tar.gz",
        settings.minikube.crictl_sha256,
        is_archive=True,
    )


def needed(settings: Settings) -> list[Program]:
    """The programs that this deploy needs, even if the host has them already."""
    found = [kubectl(settings)]
    if settings.kubernetes.uses_minikube:
        found.append(minikube(settings))
    if settings.node_is_host:
        found.append(crictl(settings))
    return found
