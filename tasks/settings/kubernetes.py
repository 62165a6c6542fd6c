"""Settings of the cluster, minikube's or an existing one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks import layout
from tasks.settings.types import (
    AbsolutePath,
    HostFolder,
    KubernetesName,
    KubernetesObject,
    Network,
    Section,
    Sha256,
    Token,
    Version,
    numbers,
)

# Admission policies are part of Kubernetes' stable API since this one:
# https://kubernetes.io/blog/2024/04/24/validating-admission-policy-ga/
POLICY_SINCE = [1, 30]
# Checksums of the default version, by architecture.
KUBECTL_SHA256 = {
    "amd64": "874d5e72dbb819f43cff16bcd1e4f8bac5b7f2361fe1e55049b0a6c676fb0cbf",
    "arm64": "cc749967b62f4422260bc9c0aa7a7c55f45175ae38cb8d95767b5d2b7e04c1fd",
}


class Kubernetes(Section):
    """The cluster, and the namespace of the task pods."""

    heading: ClassVar[str] = "Kubernetes"

    provider: Literal["minikube", "existing"] = Field(
        default="minikube", description="Install and run `minikube`, or use an `existing` cluster."
    )
    kubeconfig: AbsolutePath | None = Field(
        default=None,
        description="Path on the host of an existing cluster's kubeconfig, with rights to set up"
        " a namespace.",
    )
    context: Token | None = Field(
        default=None, description="Context of that kubeconfig; none uses its current one."
    )
    namespace: KubernetesName = Field(
        default="airflow", description="Namespace of the task pods; the deploy owns it."
    )
    extra_namespaces: list[KubernetesName] = Field(
        default=[], description="Additional namespaces that tasks may choose with `pod_override`."
    )
    extra_manifests: list[KubernetesObject] = Field(
        default=[],
        repr=False,
        description="Manifests of additional Kubernetes objects: quotas, limits, priority"
        " classes. Leaving one out later does not delete it.",
    )
    network_policy: bool = Field(
        default=False,
        description="Let task pods reach only DNS, the Execution API and"
        " `kubernetes_allowed_networks`.",
    )
    allowed_networks: list[Network] = Field(
        default=[],
        description="Networks that task pods may reach despite the policy, such as `10.0.0.0/8`.",
    )
    pod_operator: bool = Field(
        default=False, description="Let tasks start pods of their own with KubernetesPodOperator."
    )
    pod_policy: bool = Field(
        default=True,
        description="Let the cluster refuse task pods that could reach beyond themselves: other"
        " host folders, users, accounts, the node's network, privileges.",
    )
    allowed_host_folders: list[HostFolder] = Field(
        default=[], description="Additional folders of the node that pods may mount, also to write."
    )
    allowed_users: list[Annotated[int, Field(ge=0)]] = Field(
        default=[],
        description="Additional user and group ids that pods may have; 0 allows root and every"
        " image's own user.",
    )
    allowed_service_accounts: list[KubernetesName] = Field(
        default=[], description="Additional service accounts that pods may act as."
    )
    version: Version = Field(
        default="1.35.8", description="Version of Kubernetes in minikube, and of kubectl."
    )
    kubectl_sha256: Sha256 | None = Field(
        default=None,
        description="Checksum of the kubectl binary for the host's architecture, which another"
        " version than the default needs.",
    )

    def conflicts(self) -> Iterator[str]:
        """Settings that the provider needs or does not use, and values that can't work."""
        if self.uses_minikube and (self.kubeconfig or self.context):
            yield (
                "kubernetes_kubeconfig and kubernetes_context belong to an existing cluster:"
                ' leave them out or write kubernetes_provider = "existing"'
            )
        if not self.uses_minikube and self.kubeconfig is None:
            yield (
                'kubernetes_kubeconfig: kubernetes_provider = "existing" needs it; write the path'
                " on the host of the cluster's kubeconfig"
            )
        yield from self._other_conflicts()

    def conflicts_of_group(self) -> Iterator[str]:
        """Conflicts if the cluster is on the host of the group `cluster`."""
        for name in ("provider", "kubeconfig", "context"):
            if getattr(self, name) != type(self).model_fields[name].default:
                yield (
                    f"kubernetes_{name}: the deploy makes the cluster of the group cluster, and the"
                    " kubeconfig for it: leave it out, or the group"
                )
        yield from self._other_conflicts()

    def _other_conflicts(self) -> Iterator[str]:
        if len(set(self.namespaces)) < len(self.namespaces):
            yield (
                "kubernetes_extra_namespaces: write each namespace once, and not"
                f" {self.namespace}, which is kubernetes_namespace"
            )
        if self.control_namespace in self.namespaces:
            yield (
                f"kubernetes_extra_namespaces: {self.control_namespace} is the namespace of"
                " Airflow's own accounts, where no task may run: choose another one"
            )
        if len(self.control_namespace) > 63:
            yield (
                f"kubernetes_namespace: {self.control_namespace}, the namespace of Airflow's own"
                " accounts, would have more than 63 characters: choose a shorter one"
            )
        for each in self.extra_manifests:
            if each["kind"] == "Secret":
                yield (
                    f"kubernetes_extra_manifests: {each['metadata']['name']} is a Secret, and the"
                    " run's output shows these manifests: make it on the host with kubectl"
                )
        if self.allowed_networks and not self.network_policy:
            yield (
                "kubernetes_allowed_networks has no meaning without kubernetes_network_policy ="
                " true: write it, or leave the networks out"
            )

        yield from self._policy_conflicts()

    def _policy_conflicts(self) -> Iterator[str]:
        for name in ("allowed_host_folders", "allowed_users", "allowed_service_accounts"):
            if getattr(self, name) and not self.pod_policy:
                yield (
                    f"kubernetes_{name} has no meaning with kubernetes_pod_policy = false, which"
                    " allows every pod: leave it out"
                )
        reserved = {layout.CONTROL_PLANE, layout.TRIGGERER}
        for account in sorted(reserved & {*self.allowed_service_accounts}):
            yield (
                f"kubernetes_allowed_service_accounts: {account} is the account of Airflow itself:"
                " make another one for tasks"
            )

    def kubectl_sum(self, architecture: str) -> str:
        """The checksum of kubectl for hosts of this architecture."""
        return self.kubectl_sha256 or KUBECTL_SHA256[architecture]

    @property
    def lacks_policy(self) -> bool:
        """Whether this version can't refuse pods as the settings want it."""
        return self.pod_policy and numbers(self.version)[:2] < POLICY_SINCE

    @property
    def uses_minikube(self) -> bool:
        """Whether the deploy installs the cluster."""
        return self.provider == "minikube"

    @property
    def namespaces(self) -> list[str]:
        """All namespaces that tasks may run in, the default one first."""
        return [self.namespace, *self.extra_namespaces]

    @property
    def control_namespace(self) -> str:
        """The namespace of the accounts of the host's processes; no pod runs there."""
        return f"{self.namespace}-control"

    @property
    def accounts(self) -> dict[str, tuple[str, str]]:
        """The accounts of the host's processes, each with its kubeconfig and its readers' group."""
        found = {
            layout.CONTROL_PLANE: (layout.KUBECONFIG, layout.CONTROL_USER),
            layout.RENEWAL: (layout.RENEWAL_KUBECONFIG, "root"),
        }
        if self.pod_operator:
            found[layout.TRIGGERER] = (layout.TRIGGERERS_KUBECONFIG, layout.DAGS_USER)
        return found

    @property
    def admin_kubeconfig(self) -> str:
        """Path on the host of the kubeconfig that sets up the namespace."""
        return self.kubeconfig or "/root/.kube/config"
