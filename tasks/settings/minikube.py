"""Settings of minikube, and of the files that it needs without the internet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from tasks.settings.deploys_own import MINIKUBE_ARGS
from tasks.settings.types import AbsolutePath, Line, LinuxName, Section, Sha256, Version


class Minikube(Section):
    """The cluster that the deploy installs."""

    heading: ClassVar[str] = "minikube"

    version: Version = Field(default="1.36.0", description="Version of minikube.")
    sha256: Sha256 = Field(
        default="cddeab5ab86ab98e4900afac9d62384dae0941498dfbe712ae0c8868250bc3d7",
        description="Checksum of the minikube binary.",
    )
    driver: LinuxName = Field(
        default="none",
        description="minikube's driver; `none` runs Kubernetes on the host itself. The deploy is"
        " not tested with another one on machines.",
    )
    extra_args: list[Line] = Field(
        default=[], description="Additional arguments of `minikube start`, passed on unchanged."
    )
    addons: list[LinuxName] = Field(
        default=[],
        description="Addons of minikube to enable, such as `dashboard` and `metrics-server`.",
    )
    crictl_version: Version = Field(
        default="1.33.0", description="Version of crictl, which driver `none` needs."
    )
    crictl_sha256: Sha256 = Field(
        default="8307399e714626e69d1213a4cd18c8dec3d0201ecdac009b1802115df8973f0f",
        description="Checksum of the crictl archive.",
    )

    def conflicts(self) -> Iterator[str]:
        """Arguments of the deploy's own."""
        for argument in self.extra_args:
            if reason := MINIKUBE_ARGS.get(argument.partition("=")[0]):
                yield f"minikube_extra_args: the deploy itself gives {argument}: {reason}"

    @property
    def pod_network(self) -> str:
        """The addresses of pods."""
        option = "--extra-config=kubeadm.pod-network-cidr="
        given = [each.removeprefix(option) for each in self.extra_args if each.startswith(option)]
        return given[-1] if given else "10.244.0.0/16"


class Offline(Section):
    """Kubernetes' programs and images without the internet."""

    heading: ClassVar[str] = "Offline"

    dir: AbsolutePath | None = Field(
        default=None,
        description="Folder on the host with the files that would otherwise be downloaded.",
    )
