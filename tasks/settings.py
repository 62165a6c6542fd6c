"""Every setting of the deploy: its type, default and meaning, and what is derived from it."""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pyinfra.api import DeployError
from pyinfra.api.arguments import all_global_arguments
from pyinfra.api.connectors import get_all_connectors

from tasks.kinds import (
    AbsolutePath,
    Address,
    BundleName,
    Claim,
    Connection,
    ConnectionId,
    DebianPackage,
    Executor,
    GitBundle,
    KubernetesName,
    KubernetesObject,
    LinuxName,
    Network,
    Part,
    PodManifest,
    Pool,
    Port,
    Registry,
    S3Logs,
    Sha256,
    Variable,
    Version,
    WebCertificate,
    WebUrl,
    Word,
    is_this_host,
)
from tasks.layout import LOOPBACK, ROOT, VENVS

REQUIREMENTS = ROOT / "files/opt/airflow/requirements"

# Names that no git bundle may have: tasks/dags.py's own, and Airflow's.
RESERVED_BUNDLES = ("dags-folder", "deploy", "example_dags")
# Settings whose values are not repeated when they are wrong, since they may hold something secret.
HIDDEN = (
    "airflow_connections",
    "airflow_git_bundles",
    "airflow_variables",
    "airflow_web_certificate",
    "worker_registry",
)


class Release(NamedTuple):
    """A Debian release that the deploy knows: what its own packages are."""

    number: int
    python: str
    postgres: int


# https://packages.debian.org: python3 and postgresql of each release.
RELEASES = {
    "bookworm": Release(number=12, python="3.11", postgres=15),
    "trixie": Release(number=13, python="3.13", postgres=17),
}


class Settings(Part):
    """What an inventory may say; inventories/README.md lists each of them."""

    airflow_version: Version = Field(
        "3.3.2",
        description="Version of Airflow; `files/opt/airflow/requirements/` must hold its lock"
        " file.",
    )
    airflow_extra_requirements: list[str] = Field(
        [], description="Additional Python requirements, on the host and in the worker image."
    )
    airflow_config: dict[str, dict[str, str]] = Field(
        {},
        description="Additional options of airflow.cfg, by section; they override the deploy's"
        " own.",
    )
    airflow_executor: Executor = Field(
        "KubernetesExecutor",
        description="Executors; the first runs each task that names none. With `LocalExecutor`"
        " added, tasks that name it run on the host.",
    )
    airflow_web_host: Address = Field(
        "127.0.0.1",
        description="Address that serves the web page and the REST API. The default is reachable"
        " from the host only; any other, such as `0.0.0.0` for all, is served over"
        " TLS.",
    )
    airflow_web_port: Port = Field(
        8080, description="Port of the web page and the APIs on the host itself, without TLS."
    )
    airflow_https_port: Port = Field(
        443, description="Port of the web page and the REST API at `airflow_web_host`, with TLS."
    )
    airflow_pods_port: Port = Field(
        8081, description="Port of the Execution API for task pods, with TLS."
    )
    airflow_base_url: WebUrl | None = Field(
        None, description="URL of the web page as its users type it; links in mails need it."
    )
    airflow_web_certificate: WebCertificate | None = Field(
        None,
        description="Certificate and key of the web page; none uses the one that the host makes.",
    )
    airflow_host_names: list[Address] = Field(
        [], description="Additional names and addresses in the certificate that the host makes."
    )
    airflow_logins_per_minute: int = Field(
        10, ge=1, description="Logins per minute that one address may try over TLS."
    )
    airflow_metrics_port: Port | None = Field(
        None,
        description="Port of the Prometheus endpoint, on all addresses; none disables it.",
    )
    airflow_address_for_pods: Address | None = Field(
        None, description="Name or address, without a port, at which pods reach this host."
    )
    airflow_admin_user: LinuxName = Field("admin", description="First user of the web page.")
    airflow_uid: int = Field(
        50000,
        ge=100,
        le=65533,
        description="User and group id that runs DAG code: in task pods, and as the host's user"
        " `airflow-dags`.",
    )
    airflow_examples: bool = Field(True, description="Install the example DAGs.")
    airflow_smoke_test: bool = Field(
        True, description="Run a tiny DAG as a pod at the end of a deploy that changed something."
    )
    airflow_dags_source: Literal["host", "volume_claim", "image", "git"] = Field(
        "host",
        description="Where DAGs come from: the `host`'s folder `/opt/airflow/dags`, a"
        " `volume_claim`, the worker `image`, or `git` alone.",
    )
    airflow_dags_from: str | None = Field(
        None,
        description="Folder on your machine whose DAGs the deploy copies; the source `image`"
        " needs it, for the source `host` it is optional.",
    )
    airflow_dags_claim: Claim | None = Field(
        None, description="Volume claim of the source `volume_claim`."
    )
    airflow_git_bundles: dict[BundleName, GitBundle] = Field(
        {}, description="Git repositories with DAGs, by name; they can be added to any source."
    )
    airflow_logs: Literal["host", "volume_claim", "s3"] = Field(
        "host",
        description="Where task logs are kept: the `host`'s folder `/var/log/airflow`, a"
        " `volume_claim`, or `s3`.",
    )
    airflow_logs_claim: Claim | None = Field(
        None, description="Volume claim for `volume_claim` logs."
    )
    airflow_logs_s3: S3Logs | None = Field(None, description="Folder and connection for `s3` logs.")
    airflow_log_days: int = Field(
        90,
        ge=0,
        description="Days that log files are kept, on the host and in a claim; 0 keeps them for"
        " ever.",
    )
    airflow_history_days: int = Field(
        365,
        ge=0,
        description="Days that runs stay in the database after they ended; 0 keeps them for ever.",
    )
    airflow_connections: dict[ConnectionId, Connection] = Field(
        {},
        description="Connections, by id; the deploy creates and corrects them, and never shows"
        " them.",
    )
    airflow_variables: dict[str, str] = Field(
        {},
        description="Variables of Airflow; the deploy creates and corrects them, and never shows"
        " them.",
    )
    airflow_pools: dict[str, Pool] = Field(
        {}, description="Pools, by name; the deploy creates and corrects them."
    )
    airflow_backups_kept: int = Field(
        7, ge=0, description="Daily backups that are kept on the host; 0 makes none."
    )
    postgres_version: int | None = Field(
        None, ge=14, le=18, description="Major version of PostgreSQL; none uses Debian's own."
    )
    postgres_config: dict[str, str] = Field(
        {}, description="Additional options of postgresql.conf; they override the deploy's own."
    )
    kubernetes_provider: Literal["minikube", "existing"] = Field(
        "minikube", description="Install and run `minikube`, or use an `existing` cluster."
    )
    kubernetes_kubeconfig: AbsolutePath | None = Field(
        None,
        description="Path on the host of an existing cluster's kubeconfig, with rights to set up"
        " a namespace.",
    )
    kubernetes_context: Word | None = Field(
        None, description="Context of that kubeconfig; none uses its current one."
    )
    kubernetes_namespace: KubernetesName = Field(
        "airflow", description="Namespace of the task pods; the deploy owns it."
    )
    kubernetes_more_namespaces: list[KubernetesName] = Field(
        [], description="Additional namespaces that tasks may choose with `pod_override`."
    )
    kubernetes_objects: list[KubernetesObject] = Field(
        [],
        description="Additional Kubernetes objects, as manifests: quotas, limits, priority"
        " classes. Leaving one out later does not delete it.",
    )
    kubernetes_network_policy: bool = Field(
        False,
        description="Let task pods reach only DNS, the Execution API and"
        " `kubernetes_network_allowed`.",
    )
    kubernetes_network_allowed: list[Network] = Field(
        [],
        description="Networks that task pods may reach despite the policy, such as `10.0.0.0/8`.",
    )
    kubernetes_pod_operator: bool = Field(
        False, description="Let tasks start pods of their own with KubernetesPodOperator."
    )
    kubernetes_version: Version = Field(
        "1.33.1", description="Version of Kubernetes in minikube, and of kubectl."
    )
    kubectl_sha256: Sha256 = Field(
        "5de4e9f2266738fd112b721265a0c1cd7f4e5208b670f811861f699474a100a3",
        description="Checksum of the kubectl binary.",
    )
    minikube_version: Version = Field("1.36.0", description="Version of minikube.")
    minikube_sha256: Sha256 = Field(
        "cddeab5ab86ab98e4900afac9d62384dae0941498dfbe712ae0c8868250bc3d7",
        description="Checksum of the minikube binary.",
    )
    minikube_driver: LinuxName = Field(
        "none", description="minikube's driver; `none` runs Kubernetes on the host itself."
    )
    minikube_start_args: list[str] = Field(
        [], description="Additional arguments of `minikube start`, passed on unchanged."
    )
    minikube_addons: list[LinuxName] = Field(
        [], description="Addons of minikube to enable, such as `dashboard` and `metrics-server`."
    )
    crictl_version: Version = Field(
        "1.33.0", description="Version of crictl, which driver `none` needs."
    )
    crictl_sha256: Sha256 = Field(
        "8307399e714626e69d1213a4cd18c8dec3d0201ecdac009b1802115df8973f0f",
        description="Checksum of the crictl archive.",
    )
    worker_image: Word | None = Field(
        None, description="Image of the task pods; none builds one from the host's own venv."
    )
    worker_apt_packages: list[DebianPackage] = Field(
        [], description="Additional Debian packages in the worker image."
    )
    worker_resources: dict[str, dict[str, str]] = Field(
        {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        description="Resources of a task pod's container, in Kubernetes' notation.",
    )
    worker_registry: Registry | None = Field(
        None, description="Registry that the built worker image is pushed to and pulled from."
    )
    worker_images_kept: int = Field(
        2,
        ge=1,
        description="Built worker images that are kept, including the current one, and as many"
        " venvs; images that pods use are kept as well.",
    )
    worker_env: dict[Variable, str] = Field(
        {}, description="Additional environment variables of the task pods; not for secrets."
    )
    worker_pod: PodManifest = Field(
        PodManifest(),
        description="Additional parts of the task pods' manifest, merged like a `pod_override`.",
    )
    worker_pod_template: str | None = Field(
        None, description="File on your machine that replaces the generated pod template."
    )
    worker_delete_finished_pods: bool = Field(
        True,
        description="Delete a successful task's pod at once; otherwise keep it as long as a"
        " failed one.",
    )
    worker_failed_pods_minutes: int = Field(
        60, ge=0, description="Minutes that a failed pod is kept, at least; 0 deletes it at once."
    )
    offline_dir: AbsolutePath | None = Field(
        None, description="Folder on the host with the files that would otherwise be downloaded."
    )
    _codename: str = PrivateAttr("")  # of the host's release, once on_release() was called

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Make the settings from a host's inventory data.

        Keys that belong to pyinfra (connection data, global arguments) are left out.
        Raises DeployError with a sentence for each key that is wrong.
        """
        given = {key: value for key, value in data.items() if key not in _pyinfra_keys()}
        try:
            return cls(**given)
        except ValidationError as error:
            raise DeployError("\n".join(_sentence(dict(e)) for e in error.errors())) from None

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if conflicts := [
            *self._port_conflicts(),
            *self._page_conflicts(),
            *self._cluster_conflicts(),
            *self._source_conflicts(),
            *self._pod_conflicts(),
        ]:
            raise ValueError("\n".join(conflicts))
        return self

    def _port_conflicts(self) -> Iterator[str]:
        taken: dict[int, str] = {}
        for key, port in self.ports.items():
            if port in taken:
                yield f"{key}: {port} is {taken[port]}: write another one"
            taken[port] = key

    def _page_conflicts(self) -> Iterator[str]:
        if self.airflow_web_certificate is None:
            return
        if not self.page_is_public:
            yield (
                "airflow_web_certificate has no meaning with airflow_web_host ="
                f' "{self.airflow_web_host}": write the address there that the web page is to be at'
            )
        conflicts = self.airflow_web_certificate.conflicts()
        yield from (f"airflow_web_certificate: {each}" for each in conflicts)

    def _cluster_conflicts(self) -> Iterator[str]:
        if not self.lock_path.is_file():
            locked = ", ".join(sorted(path.stem for path in REQUIREMENTS.glob("[0-9]*.txt")))
            yield (
                f"airflow_version: there is no lock file for {self.airflow_version};"
                f" write one of: {locked}"
            )
        if is_this_host(self.airflow_address_for_pods or ""):
            yield (
                f"airflow_address_for_pods: in a pod, {self.airflow_address_for_pods} is the pod"
                " itself: write an address of the host that other machines use"
            )
        if self.minikube_addons and not self.uses_minikube:
            yield (
                "minikube_addons has no meaning with an existing cluster: leave it out, and ask for"
                " the addons there"
            )
        if self.uses_minikube:
            if self.kubernetes_kubeconfig or self.kubernetes_context:
                yield (
                    "kubernetes_kubeconfig and kubernetes_context belong to an existing cluster:"
                    ' leave them out or write kubernetes_provider = "existing"'
                )
            return
        needed = {
            "kubernetes_kubeconfig": "the path on the host of the cluster's kubeconfig",
            "airflow_address_for_pods": "the address under which the cluster's pods reach the host",
        }
        if self.worker_registry is None:
            needed["worker_image"] = "an image that the cluster can pull (or use worker_registry)"
        for key, why in needed.items():
            if getattr(self, key) is None:
                yield f'{key}: kubernetes_provider = "existing" needs it; write {why}'

    def _source_conflicts(self) -> Iterator[str]:
        # What a choice needs, and what has no meaning without it.
        for chosen, needed, key, what in (
            (self.airflow_dags_source, "volume_claim", "airflow_dags_claim", "claim"),
            (self.airflow_logs, "volume_claim", "airflow_logs_claim", "claim"),
            (self.airflow_logs, "s3", "airflow_logs_s3", "folder and connection"),
        ):
            choice = "airflow_dags_source" if "dags" in key else "airflow_logs"
            if chosen == needed and getattr(self, key) is None:
                yield f'{key}: {choice} = "{needed}" needs it; write its {what}'
            elif chosen != needed and getattr(self, key) is not None:
                yield f'{key} has no meaning with {choice} = "{chosen}": write "{needed}" there'
        yield from self._dags_conflicts()
        if self.worker_image and self.worker_registry:
            yield "worker_image and worker_registry exclude each other: leave one out"
        registry = self.worker_registry
        if registry and (registry.username is None) != (registry.password is None):
            yield "worker_registry: username and password belong together: write both, or none"

    def _dags_conflicts(self) -> Iterator[str]:
        if self.airflow_dags_source == "host" and not self.node_is_host:
            yield (
                'airflow_dags_source: "host" needs a cluster whose node is the host'
                ' (minikube_driver = "none"), since pods mount the host\'s folder: write "image",'
                ' "git", or "volume_claim" with a claim for a folder that host and nodes share'
            )
        if self.airflow_dags_source == "git" and not self.airflow_git_bundles:
            yield 'airflow_git_bundles: airflow_dags_source = "git" needs one; write its url'
        if self.airflow_dags_source == "image" and self.worker_image:
            yield (
                'airflow_dags_source = "image" puts DAGs into the image that the deploy builds:'
                " leave out worker_image, or choose another source"
            )
        if self.airflow_dags_source == "image" and self.airflow_dags_from is None:
            yield 'airflow_dags_from: airflow_dags_source = "image" needs it; write the folder'
        if self.airflow_dags_from and self.airflow_dags_source not in ("image", "host"):
            yield (
                f"airflow_dags_from has no meaning with airflow_dags_source ="
                f' "{self.airflow_dags_source}": leave it out'
            )
        if self.airflow_dags_from and not Path(ROOT, self.airflow_dags_from).is_dir():
            yield (
                f"airflow_dags_from: there is no folder {self.airflow_dags_from} on this machine:"
                " write the path of one, from the deploy's own folder on or absolute"
            )
        for name, bundle in self.airflow_git_bundles.items():
            if name in RESERVED_BUNDLES:
                yield (
                    f"airflow_git_bundles: {name} is a bundle that the deploy or Airflow brings:"
                    " choose another name"
                )
            if re.match(r"https?://[^/]*@", bundle.url):
                yield (
                    f"airflow_git_bundles: the url of {name} has a name or a token in it, which"
                    " every pod would show: put it into a connection (airflow_connections), and"
                    " the connection's id here"
                )
        claim = self.airflow_dags_claim
        if claim and re.match(r"/(home|root|run/user)(/|$)", claim.host_path):
            yield (
                f"airflow_dags_claim: {claim.host_path} is hidden from Airflow's services, as all"
                " of /home and /root: choose a place elsewhere, as /srv"
            )

    def _pod_conflicts(self) -> Iterator[str]:
        if not self.worker_delete_finished_pods and not self.keeps_pods:
            yield (
                "worker_failed_pods_minutes: worker_delete_finished_pods = false keeps pods for so"
                " many minutes, and 0 of them is none: write another number"
            )
        if len(set(self.namespaces)) < len(self.namespaces):
            yield (
                "kubernetes_more_namespaces: write each namespace once, and not"
                f" {self.kubernetes_namespace}, which is kubernetes_namespace"
            )
        for each in self.kubernetes_objects:
            if each["kind"] == "Secret":
                yield (
                    f"kubernetes_objects: {each['metadata']['name']} is a Secret, and these objects"
                    " are shown in the run's output: make it on the host with kubectl"
                )
        if self.kubernetes_network_allowed and not self.kubernetes_network_policy:
            yield (
                "kubernetes_network_allowed has no meaning without kubernetes_network_policy ="
                " true: write it, or leave the networks out"
            )
        if self.kubernetes_network_policy and not (self.execution_api_network or self.node_is_host):
            yield (
                "kubernetes_network_policy: a policy knows addresses, not names: write"
                " airflow_address_for_pods as an address"
            )
        if self.worker_pod_template:
            for key in ("worker_pod", "worker_resources"):
                if key in self.model_fields_set and getattr(self, key):
                    yield f"{key} and worker_pod_template exclude each other: leave one out"
        containers = self.worker_pod.get("spec", {}).get("containers", [])
        if containers and containers[0].get("name") != "base":
            yield (
                "worker_pod: containers are merged by their position, and the first of"
                ' spec.containers is the task\'s own: write its name "base", and others after it'
            )
        if "HOST_IP" in self.worker_env:
            yield "worker_env: HOST_IP is the node's address in each pod: choose another name"

    def on_release(self, codename: str) -> Self:
        """These settings with what depends on the host's release filled in."""
        version = self.postgres_version or RELEASES[codename].postgres
        settings = self.model_copy(update={"postgres_version": version})
        settings._codename = codename
        return settings

    @property
    def codename(self) -> str:
        """The host's Debian release by name; known once on_release() was called."""
        assert self._codename, "call on_release() first"
        return self._codename

    @property
    def release(self) -> Release:
        """The host's Debian release; known once on_release() was called."""
        return RELEASES[self.codename]

    @property
    def lock_path(self) -> Path:
        """Lock file of the Airflow version, in the repository."""
        return REQUIREMENTS / f"{self.airflow_version}.txt"

    @property
    def uses_minikube(self) -> bool:
        """Whether the deploy installs the cluster."""
        return self.kubernetes_provider == "minikube"

    @property
    def node_is_host(self) -> bool:
        """Whether the cluster's node is the host itself, so that both see the same files."""
        return self.uses_minikube and self.minikube_driver == "none"

    @property
    def claims(self) -> dict[str, Claim]:
        """The claims that are used, by the setting that names them."""
        given = {
            "airflow_dags_claim": self.airflow_dags_claim,
            "airflow_logs_claim": self.airflow_logs_claim,
        }
        return {key: claim for key, claim in given.items() if claim}

    @property
    def claims_to_make(self) -> list[Claim]:
        """Those that the deploy makes, each once."""
        return list({it.name: it for it in self.claims.values() if it.size}.values())

    @property
    def namespaces(self) -> list[str]:
        """All namespaces that tasks may run in, the one by default first."""
        return [self.kubernetes_namespace, *self.kubernetes_more_namespaces]

    @property
    def tasks_on_host(self) -> bool:
        """Whether tasks may run on the host, beside those that run as pods."""
        return "LocalExecutor" in self.airflow_executor

    @property
    def keeps_pods(self) -> bool:
        """Whether pods that ended are kept for a while, and something must clean them up."""
        return self.worker_failed_pods_minutes > 0

    @property
    def ports(self) -> dict[str, int]:
        """The ports that the deploy's own services listen on, by what sets them."""
        ports = {
            "airflow_web_port": self.airflow_web_port,
            "airflow_pods_port": self.airflow_pods_port,
        }
        if self.page_is_public:
            ports["airflow_https_port"] = self.airflow_https_port
        if self.airflow_metrics_port:
            ports["airflow_metrics_port"] = self.airflow_metrics_port
        return ports

    @property
    def page_is_public(self) -> bool:
        """Whether others than the host itself reach the web page."""
        return not is_this_host(self.airflow_web_host)

    @property
    def api_server_url(self) -> str:
        """The api-server's address on the host itself."""
        return f"http://{LOOPBACK}:{self.airflow_web_port}"

    @property
    def base_path(self) -> str:
        """The path of airflow_base_url, below which the api-server serves all that it has."""
        return urlsplit(self.airflow_base_url or "").path.rstrip("/")

    @property
    def web_url(self) -> str:
        """Airflow's address on the host itself."""
        return self.api_server_url + self.base_path

    @property
    def page_on_host(self) -> str:
        """Where the host itself reaches the web page that others reach: address and port."""
        everywhere = self.airflow_web_host in ("0.0.0.0", "::")
        address = LOOPBACK if everywhere else self.airflow_web_host
        return f"{in_url(address)}:{self.airflow_https_port}"

    @property
    def all_addresses(self) -> str:
        """What listens on all of the host's addresses listens on, as it stands before a port.

        Not always those of IPv6 too: a host may be without.
        """
        given = (self.airflow_web_host, self.airflow_address_for_pods or "")
        return "[::]" if any(":" in address for address in given) else "0.0.0.0"

    @property
    def pulls_with_login(self) -> bool:
        """Whether the cluster needs a login to pull the worker image."""
        return bool(self.worker_registry and self.worker_registry.password)

    @property
    def admin_kubeconfig(self) -> str:
        """Path on the host of the kubeconfig that sets up the namespace."""
        return self.kubernetes_kubeconfig or "/root/.kube/config"

    @property
    def kubectl(self) -> str:
        """kubectl with the rights to set up the namespace, as a shell command's beginning."""
        context = f" --context={self.kubernetes_context}" if self.kubernetes_context else ""
        return f"/usr/local/bin/kubectl --kubeconfig={self.admin_kubeconfig}{context}"

    @property
    def venv_key(self) -> str:
        """Names a venv by all that goes into it."""
        return f"{self.airflow_version}-" + digest(
            self.lock_path.read_text(), *self.airflow_extra_requirements, self.release.python
        )

    @property
    def venv(self) -> str:
        """Path of the venv, on the host and in the worker image."""
        return f"{VENVS}/{self.venv_key}"

    @property
    def execution_api_network(self) -> str | None:
        """The Execution API's address as a policy writes it; none where it is a name or the node's
        own, which pods may always reach."""
        try:
            return str(ipaddress.ip_network(self.airflow_address_for_pods or ""))
        except ValueError:
            return None

    @property
    def address_for_pods(self) -> str | None:
        """The address or name under which pods reach the host; none: that of their node."""
        return self.airflow_address_for_pods or (
            None if self.node_is_host else "host.minikube.internal"
        )

    @property
    def execution_api_url(self) -> str:
        """The Execution API's address as a pod sees it.

        With driver `none` the pod's node is this host, so Kubernetes itself tells the pod the
        address (status.hostIP) and no address is written anywhere that could go stale. The other
        drivers of minikube give the host a name inside the cluster.
        """
        address = in_url(self.address_for_pods or "$(HOST_IP)")
        return f"https://{address}:{self.airflow_pods_port}/execution/"


def in_url(address: str) -> str:
    """An address or name as it stands before a port."""
    try:
        return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    except ValueError:
        return address


def digest(*parts: str) -> str:
    """A short name for what these texts are together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _pyinfra_keys() -> set[str]:
    connectors = get_all_connectors().values()
    connection = {key for connector in connectors for key in connector.data_cls.__annotations__}
    return connection | {name for name, _ in all_global_arguments()}


def _sentence(error: dict[str, Any]) -> str:
    """What is wrong with a setting and what to write instead, from pydantic's finding."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, Settings.model_fields, n=1)
        hint = f"did you mean {close[0]}?" if close else "inventories/README.md lists the settings."
        return f"{key} is not a setting; {hint}"
    if error["type"] == "value_error":
        said = str(error["ctx"]["error"])
        return f"{key}: {said}" if key else said  # what is wrong with several names them itself
    message = error["msg"].replace("Input should be", "should be")
    # What stands in these may be secret, also where its type is wrong.
    hidden = key.split(".")[0] in HIDDEN
    found = "" if hidden else f", not {error['input']!r}"
    return f"{key}: {message[0].lower()}{message[1:]}{found}"
