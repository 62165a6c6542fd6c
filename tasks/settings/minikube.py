"""Settings of minikube, and of the files that it needs without the internet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from tasks.settings.reserved import ENGINE_ARGS, MINIKUBE_ARGS
from tasks.settings.types import (
    AbsolutePath,
    Line,
    LinuxName,
    Section,
    Sha256,
    Version,
    numbers,
)

# The drivers whose node is a container of a container engine of the same name.
ENGINES = ("podman", "docker")
NODE_NETWORK = "192.168.49.0/24"  # minikube's first choice for a node that is a container
# Before, --mount-string had no effect of its own: https://github.com/kubernetes/minikube/pull/21250
MOUNTS_SINCE = [1, 37]
POD_NETWORK_OPTION = "--extra-config=kubeadm.pod-network-cidr="
SERVICE_NETWORK_OPTION = "--service-cluster-ip-range="
NODE_NETWORK_OPTION = "--subnet="
PLUGIN_OPTION = "--cni="
NETWORK_OPTIONS = (POD_NETWORK_OPTION, SERVICE_NETWORK_OPTION, NODE_NETWORK_OPTION)
# Options whose values the deploy follows.
FOLLOWED = {each.partition("=")[0] for each in (*NETWORK_OPTIONS, PLUGIN_OPTION)}
# The oldest and the newest minor version of Kubernetes that the default version starts.
STARTS = ("1.28", "1.35")
# Checksums of the default versions, by architecture.
MINIKUBE_SHA256 = {
    "amd64": "099477eaf248bcb5bcea8ce78a2898e93ac01461c35189da1848c3de82ecd22e",
    "arm64": "a0b8a1ebfc8c07a247271d8df98ac0ddd7c8c855b601d402463e2e50c08c6bab",
}
CRICTL_SHA256 = {
    "amd64": "2e141e5b22cb189c40365a11807d69b76b9b3caced89fac2f4ec879408ce2177",
    "arm64": "519071de89b64c43e2a1661bb5489c6c3fd5e9e5fcef75e50e542b0c891f1118",
}


class Minikube(Section):
    """The cluster that the deploy installs."""

    heading: ClassVar[str] = "minikube"

    version: Version = Field(default="1.38.1", description="Version of minikube.")
    sha256: Sha256 | None = Field(
        default=None,
        description="Checksum of the minikube binary for the host's architecture, which another"
        " version than the default needs.",
    )
    driver: LinuxName = Field(
        default="none",
        description="minikube's driver: `none` runs Kubernetes on the host itself, `podman` and"
        " `docker` in a container.",
    )
    extra_args: list[Line] = Field(
        default=[], description="Additional arguments of `minikube start`, passed on unchanged."
    )
    addons: list[LinuxName] = Field(
        default=[],
        description="Addons of minikube to enable, such as `dashboard` and `metrics-server`.",
    )
    crictl_version: Version = Field(
        default="1.35.0", description="Version of crictl, which driver `none` needs."
    )
    crictl_sha256: Sha256 | None = Field(
        default=None,
        description="Checksum of the crictl archive for the host's architecture, which another"
        " version than the default needs.",
    )

    def conflicts(self) -> Iterator[str]:
        """Arguments of the deploy's own."""
        own = {**MINIKUBE_ARGS, **(ENGINE_ARGS if self.engine else {})}
        for argument in self.extra_args:
            if reason := own.get(argument.partition("=")[0]):
                yield f"minikube_extra_args: the deploy itself gives {argument}: {reason}"
            if argument in FOLLOWED:
                yield (
                    f"minikube_extra_args: the deploy follows {argument}, whose value is apart from"
                    f" it: write both as one argument, {argument}=VALUE"
                )
        for option in NETWORK_OPTIONS:
            for network in self._given(option)[-1:]:
                try:
                    # An address alone would be a network of one, or of its old class.
                    ipaddress.IPv4Network(network if "/" in network else "", strict=False)
                except ValueError:
                    yield (
                        f"minikube_extra_args: {option}{network} names no network:"
                        " write one such as 172.30.0.0/16"
                    )
        if self.engine and numbers(self.version)[:2] < MOUNTS_SINCE:
            yield (
                f"minikube_version: write 1.37.0 or a newer one with the driver {self.engine}: an"
                " older minikube does not mount the host's folders in the node"
            )

    def conflicts_of_group(self) -> Iterator[str]:
        """Conflicts on the host of the group `cluster`, whose API others reach."""
        yield from self.conflicts()
        if self.driver != "none":
            yield (
                f"minikube_driver: with {self.driver} the cluster's API listens for its own host"
                ' only, and those of Airflow could not reach the group cluster: write "none"'
            )

    def sum(self, architecture: str) -> str:
        """The checksum of minikube for hosts of this architecture."""
        return self.sha256 or MINIKUBE_SHA256[architecture]

    def crictl_sum(self, architecture: str) -> str:
        """The checksum of crictl's archive for hosts of this architecture."""
        return self.crictl_sha256 or CRICTL_SHA256[architecture]

    def starts(self, kubernetes: str) -> bool:
        """Whether it starts this version of Kubernetes, as any other minikube than the default may
        do."""
        oldest, newest = map(numbers, STARTS)
        is_default = self.version == Minikube.model_fields["version"].default
        return not is_default or oldest <= numbers(kubernetes)[:2] <= newest

    @property
    def engine(self) -> str | None:
        """The container engine that runs the node, if the node is a container."""
        return self.driver if self.driver in ENGINES else None

    def _given(self, option: str) -> list[str]:
        """The values that the inventory gives to an option of minikube; the last one counts."""
        return [each.removeprefix(option) for each in self.extra_args if each.startswith(option)]

    @property
    def pod_network(self) -> str:
        """The addresses of pods.

        minikube's bridge, its choice for these drivers, has the same ones whatever kubeadm is told:
        https://github.com/kubernetes/minikube/blob/v1.38.1/pkg/minikube/cni/bridge.go
        """
        is_bridge = {*self._given(PLUGIN_OPTION)[-1:]} <= {"", "auto", "bridge"}
        given = [] if is_bridge else self._given(POD_NETWORK_OPTION)
        return given[-1] if given else "10.244.0.0/16"

    @property
    def node_network(self) -> str:
        """The addresses of a node that is a container, where minikube finds them free."""
        given = self._given(NODE_NETWORK_OPTION)
        return str(ipaddress.IPv4Network(given[-1], strict=False)) if given else NODE_NETWORK

    @property
    def service_network(self) -> str:
        """The addresses of the cluster's services."""
        return (self._given(SERVICE_NETWORK_OPTION) or ["10.96.0.0/12"])[-1]


class Offline(Section):
    """Kubernetes' programs and images without the internet."""

    heading: ClassVar[str] = "Offline"

    dir: AbsolutePath | None = Field(
        default=None,
        description="Folder on the host with the files that would otherwise be downloaded.",
    )
