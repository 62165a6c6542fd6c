"""The programs that come from the internet or the offline folder, each with its checksum."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from tasks.settings import ARCHITECTURES, Settings

IMAGE_HOST = "registry.k8s.io"  # of Kubernetes' images
NODE_IMAGE_HOST = "gcr.io"  # of the image of a node that is a container
# In the offline folder: the image of a node that is a container, as `podman save` writes it.
NODE_IMAGE = "kicbase.tar"
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


def kubectl(settings: Settings, architecture: str) -> Program:
    """The Kubernetes command-line client."""
    return Program(
        "kubectl",
        f"https://dl.k8s.io/release/v{settings.kubernetes.version}/bin/linux/{architecture}/kubectl",
        settings.kubernetes.kubectl_sum(architecture),
    )


def minikube(settings: Settings, architecture: str) -> Program:
    """The program that installs and starts the cluster."""
    return Program(
        "minikube",
        "https://storage.googleapis.com/minikube/releases/"
        f"v{settings.minikube.version}/minikube-linux-{architecture}",
        settings.minikube.sum(architecture),
    )


def crictl(settings: Settings, architecture: str) -> Program:
    """The container runtime's client, which minikube's driver none calls."""
    version = settings.minikube.crictl_version
    return Program(
        "crictl",
        "https://github.com/kubernetes-sigs/cri-tools/releases/download/"
        f"v{version}/crictl-v{version}-linux-{architecture}.tar.gz",
        settings.minikube.crictl_sum(architecture),
        is_archive=True,
    )


def offline_files(settings: Settings, architecture: str) -> list[str]:
    """The files that the offline folder must have, apart from Kubernetes' own."""
    files = [program.file for program in needed(settings, architecture)]
    return [*files, NODE_IMAGE] if settings.node_engine else files


def needed(settings: Settings, architecture: str) -> list[Program]:
    """The programs that this deploy needs, even if the host has them already."""
    found = [kubectl(settings, architecture)]
    if settings.kubernetes.uses_minikube:
        found.append(minikube(settings, architecture))
    if settings.node_is_host:
        found.append(crictl(settings, architecture))
    return found


def image_hosts(settings: Settings) -> list[str]:
    """The registries that a new cluster on this host pulls from, unless the inventory names others.

    In a node that is a virtual machine, minikube asks others.
    """
    given = {each.partition("=")[0] for each in settings.minikube.extra_args}
    if not settings.node_sees_folders or given & {"--image-repository", "--image-mirror-country"}:
        return []
    asks_for_node = settings.node_engine and "--base-image" not in given
    return [IMAGE_HOST, *([NODE_IMAGE_HOST] if asks_for_node else [])]


def upgrade_hosts(settings: Settings) -> set[str]:
    """The servers that another version of Kubernetes comes from, where the rest is there."""
    return {kubectl(settings, ARCHITECTURES[0]).host, IMAGE_HOST}
