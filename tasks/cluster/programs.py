"""The files that come from the internet or the offline folder, each with its checksum."""

from __future__ import annotations

from tasks.lib.operations import Download
from tasks.settings import Settings

OFFLINE_LOOK = "stat -c '%n %s %Y' * | sha256sum"


def kubectl(settings: Settings) -> Download:
    """The Kubernetes command-line client."""
    return Download(
        f"https://dl.k8s.io/release/v{settings.kubernetes.version}/bin/linux/amd64/kubectl",
        settings.kubernetes.kubectl_sha256,
    )


def minikube(settings: Settings) -> Download:
    """The program that installs and starts the cluster."""
    return Download(
        "https://storage.googleapis.com/minikube/releases/"
        f"v{settings.minikube.version}/minikube-linux-amd64",
        settings.minikube.sha256,
    )


def crictl(settings: Settings) -> Download:
    """Client of the container runtime; minikube's driver none calls it. An archive."""
    version = settings.minikube.crictl_version
    return Download(
        "https://github.com/kubernetes-sigs/cri-tools/releases/download/"
        f"v{version}/crictl-v{version}-linux-amd64.tar.gz",
        settings.minikube.crictl_sha256,
    )


def needed(settings: Settings) -> list[Download]:
    """The files that this deploy needs, whatever the host has already."""
    files = [kubectl(settings)]
    if settings.kubernetes.uses_minikube:
        files.append(minikube(settings))
    if settings.node_is_host:
        files.append(crictl(settings))
    return files
