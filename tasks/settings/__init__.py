"""Every setting of the deploy: its type, default and meaning, and the values derived from it.

An inventory gives the settings flat: the key of `settings.kubernetes.version` is
`kubernetes_version`.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Self, TypeVar, cast

from pydantic import PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pyinfra.api import DeployError
from pyinfra.api.arguments import all_global_arguments
from pyinfra.api.connectors import get_all_connectors

from tasks.layout import API_SERVER_PORT, API_SERVICE, CLUSTER_KUBECONFIG, POSTGRES_PORT, VENVS
from tasks.settings.airflow import Airflow
from tasks.settings.build import Build
from tasks.settings.dags import Dags
from tasks.settings.execution_api import ExecutionApi
from tasks.settings.kubernetes import KUBECTL_SHA256, Kubernetes
from tasks.settings.logs import Logs
from tasks.settings.metrics import Metrics
from tasks.settings.minikube import CRICTL_SHA256, MINIKUBE_SHA256, STARTS, Minikube, Offline
from tasks.settings.plugins import Plugins
from tasks.settings.postgres import Postgres
from tasks.settings.proxy import Proxy
from tasks.settings.retention import Retention
from tasks.settings.types import Claim, Compound, Section, digest, in_url, shown, strange
from tasks.settings.web import Web
from tasks.settings.worker import Worker

# The settings whose names changed before the first release.
RENAMED = {
    "airflow_web_host": "web_host",
    "airflow_web_port": "web_port",
    "airflow_https_port": "web_https_port",
    "airflow_base_url": "web_base_url",
    "airflow_web_certificate": "web_certificate",
    "airflow_host_names": "web_host_names",
    "airflow_logins_per_minute": "web_logins_per_minute",
    "airflow_admin_user": "web_admin_user",
    "airflow_pods_port": "execution_api_port",
    "airflow_address_for_pods": "execution_api_host",
    "airflow_metrics_port": "metrics_port",
    "airflow_dags_source": "dags_source",
    "airflow_dags_from": "dags_local_folder",
    "airflow_dags_claim": "dags_claim",
    "airflow_git_bundles": "dags_git_bundles",
    "airflow_logs": "logs_store",
    "airflow_logs_claim": "logs_claim",
    "airflow_logs_s3": "logs_s3",
    "airflow_log_days": "retention_log_days",
    "airflow_history_days": "retention_history_days",
    "airflow_backups_kept": "retention_backups",
    "worker_images_kept": "retention_worker_images",
    "worker_failed_pods_minutes": "retention_failed_pod_minutes",
    "worker_apt_packages": "worker_extra_apt_packages",
    "worker_env": "dags_env",
    "worker_pod": "worker_pod_override",
    "kubernetes_more_namespaces": "kubernetes_extra_namespaces",
    "kubernetes_objects": "kubernetes_extra_manifests",
    "kubernetes_network_allowed": "kubernetes_allowed_networks",
    "kubectl_sha256": "kubernetes_kubectl_sha256",
    "minikube_start_args": "minikube_extra_args",
    "crictl_version": "minikube_crictl_version",
    "crictl_sha256": "minikube_crictl_sha256",
}


LONGEST_KEY = 150  # characters, in a message


class Release(NamedTuple):
    """A release that the deploy plans for, and the versions of its packages."""

    distribution: str  # ID in /etc/os-release
    number: str  # VERSION_ID there
    python: str
    postgres: int
    containerd: int
    is_tried: bool = True  # on machines

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.distribution.capitalize()} {self.number}"


# By VERSION_CODENAME. https://packages.debian.org and https://packages.ubuntu.com: python3,
# postgresql and containerd of each release.
RELEASES = {
    "bookworm": Release("debian", "12", python="3.11", postgres=15, containerd=1),
    "trixie": Release("debian", "13", python="3.13", postgres=17, containerd=1),
    "noble": Release("ubuntu", "24.04", python="3.12", postgres=16, containerd=1, is_tried=False),
    "resolute": Release(
        "ubuntu", "26.04", python="3.14", postgres=18, containerd=2, is_tried=False
    ),
}


# Names of processors, as Debian, Kubernetes and the downloads have them.
ARCHITECTURES = ("amd64", "arm64")


INGRESS_PORTS = (80, 443)
MINIKUBE_NAMES = ("control-plane.minikube.internal", "host.minikube.internal")


class Group(NamedTuple):
    """A group of an inventory whose one host serves those of the group `airflow`."""

    has: str  # in words
    sections: tuple[str, ...]  # with the settings that mean something there
    alone: tuple[str, ...]  # prefixes of the settings that Airflow's hosts take from it


GROUPS = {
    "database": Group("the database", ("postgres", "metrics", "proxy"), ("postgres_", "metrics_")),
    "cluster": Group(
        "the cluster",
        ("kubernetes", "minikube", "offline", "proxy"),
        ("minikube_", "kubernetes_version", "kubernetes_kubectl_sha256"),
    ),
}
# The sections whose settings have other conflicts if a group has their host.
GROUP_OF = {"postgres": "database", "kubernetes": "cluster", "minikube": "cluster"}


class Server(NamedTuple):
    """The host of such a group."""

    name: str  # in the inventory
    data: Mapping[str, Any]  # its data in the inventory


NO_SERVERS: Mapping[str, Server] = {}


class Settings(Compound):
    """The settings of an inventory, by section; inventories/README.md lists each of them."""

    airflow: Airflow = Airflow()
    build: Build = Build()
    web: Web = Web()
    execution_api: ExecutionApi = ExecutionApi()
    dags: Dags = Dags()
    plugins: Plugins = Plugins()
    logs: Logs = Logs()
    retention: Retention = Retention()
    metrics: Metrics = Metrics()
    worker: Worker = Worker()
    kubernetes: Kubernetes = Kubernetes()
    minikube: Minikube = Minikube()
    offline: Offline = Offline()
    postgres: Postgres = Postgres()
    proxy: Proxy = Proxy()
    # The inventory's names of all hosts of this Airflow, in its order; empty if there is only one.
    members: tuple[str, ...] = ()
    # The inventory's names of the hosts of the groups `database` and `cluster`, if it has these.
    database_host: str = ""
    cluster_host: str = ""
    cluster_address: str = ""  # of the second one, as the node of its cluster
    # The groups whose one host this is; empty for a host of Airflow.
    serves: tuple[str, ...] = ()

    @classmethod
    def from_data(
        cls,
        data: Mapping[str, Any],
        members: tuple[str, ...] = (),
        servers: Mapping[str, Server] = NO_SERVERS,
    ) -> Self:
        """Make the settings from a host's inventory data.

        Keys that belong to pyinfra (connection data, global arguments) are left out. If the
        database or the cluster has a host of its own, that host has their settings.
        Raises DeployError with a sentence for each key that is wrong.
        """
        return cls._made(data, members, servers)

    @classmethod
    def of_server(cls, name: str, servers: Mapping[str, Server], registry: Any = None) -> Self:
        """Make the settings of the host of one or more of the groups `database` and `cluster`.

        Settings of the other hosts are ignored. The node pulls from the `registry` of Airflow's
        hosts.
        Raises DeployError as `from_data` does.
        """
        serves = tuple(group for group, each in servers.items() if each.name == name)
        sections = {section for group in serves for section in GROUPS[group].sections}
        known = {
            key: value
            for key, value in servers[serves[0]].data.items()
            if key not in SETTINGS or SETTINGS[key].section in sections
        }
        if registry and "cluster" in serves:
            known["worker_registry"] = registry
        return cls._made(known, (), servers, serves)

    def _beside(self, servers: Mapping[str, Server]) -> Self:
        """The settings of a host of Airflow, with those that other hosts decide."""
        update: dict[str, Section] = {}
        if self.database_host:
            there = self.of_server(self.database_host, servers)
            update["postgres"] = there.postgres.model_copy(update={"provider": "existing"})
            update["metrics"] = Metrics()
        if self.cluster_host:
            cluster = self.of_server(self.cluster_host, servers).kubernetes
            decided = {"version": cluster.version, "kubectl_sha256": cluster.kubectl_sha256}
            decided |= {"provider": "existing", "kubeconfig": CLUSTER_KUBECONFIG}
            update["kubernetes"] = self.kubernetes.model_copy(update=decided)
            update["minikube"] = Minikube()
        return self.model_copy(update=update)

    @classmethod
    def _made(
        cls,
        data: Mapping[str, Any],
        members: tuple[str, ...],
        servers: Mapping[str, Server],
        serves: tuple[str, ...] = (),
    ) -> Self:
        known = _pyinfra_keys()
        given: dict[str, dict[str, Any]] = {}
        wrong = []
        for key, value in data.items():
            if setting := SETTINGS.get(key):
                given.setdefault(setting.section, {})[setting.name] = value
                if parts := sorted(set(strange(value))):
                    wrong.append(f"{key} contains {parts[0]}: leave it out")
            elif key not in known:
                wrong.append(_unknown(key))
        try:
            own = cls.model_validate(
                {
                    **given,
                    "members": members,
                    **{f"{group}_host": each.name for group, each in servers.items()},
                    "serves": serves,
                }
            )
        except ValidationError as error:
            raise DeployError("\n".join([*wrong, *map(_sentence, error.errors())])) from None
        settings = own if serves else own._beside(servers)
        wrong = wrong or [*own._section_conflicts(), *settings._conflicts_between()]
        if not serves:
            wrong = wrong or list(_decided_elsewhere(data, servers))
        if wrong:
            raise DeployError("\n".join(wrong))
        return settings

    def _section_conflicts(self) -> Iterator[str]:
        """Sentences about settings of one section that can't work together."""
        for name in SECTIONS:
            section: Section = getattr(self, name)
            if name in GROUP_OF and getattr(self, f"{GROUP_OF[name]}_host"):
                yield from section.conflicts_of_group()
            else:
                yield from section.conflicts()

    def _conflicts_between(self) -> Iterator[str]:
        """Sentences about settings that can't work together beyond a section."""
        yield from self._version_conflicts()
        yield from self._checksum_conflicts()
        if self.serves:
            return  # with nothing of Airflow
        yield from self._port_conflicts()
        yield from self._cluster_conflicts()
        yield from self._member_conflicts()
        if self.metrics.port and not self.postgres.is_debians:
            yield (
                "metrics_port: the endpoint has the figures of the host's own PostgreSQL: leave it"
                " out, and let an exporter beside the existing one ask that"
            )
        for name in ("dags", "plugins"):
            if getattr(self, name).source == "image" and self.worker.image:
                yield (
                    f'{name}_source = "image" puts files into the image that the deploy builds:'
                    " leave out worker_image, or choose another source"
                )
        if not self.worker.delete_finished_pods and not self.retention.keeps_pods:
            yield (
                "retention_failed_pod_minutes: worker_delete_finished_pods = false keeps pods for"
                " that many minutes, and 0 keeps none: write another number"
            )

    def _version_conflicts(self) -> Iterator[str]:
        """Versions of Kubernetes that minikube does not start, where the unit lets it only warn, or
        that lack what Airflow's hosts need. An existing cluster may have another version."""
        wanted = self.kubernetes.version
        is_own = self.kubernetes.uses_minikube or bool(self.cluster_host)
        if self.kubernetes.uses_minikube and not self.minikube.starts(wanted):
            yield (
                f"kubernetes_version: minikube {self.minikube.version} starts Kubernetes"
                f" {' to '.join(STARTS)}, and not {wanted}: write one of these, or a"
                " minikube_version that starts it"
            )
        elif is_own and not self.serves and self.kubernetes.lacks_policy:
            yield (
                f"kubernetes_version: {wanted} has no admission policies, with which the cluster"
                " refuses pods that could reach beyond themselves: write 1.30 or a newer one, or"
                " kubernetes_pod_policy = false"
            )

    def _checksum_conflicts(self) -> Iterator[str]:
        """Programs whose checksum would be that of another version. The offline folder has its own
        checksums, which count instead."""
        programs = [("kubernetes_version", "kubernetes_kubectl_sha256", KUBECTL_SHA256)]
        if self.kubernetes.uses_minikube:
            programs.append(("minikube_version", "minikube_sha256", MINIKUBE_SHA256))
        if self.node_is_host:
            programs.append(("minikube_crictl_version", "minikube_crictl_sha256", CRICTL_SHA256))
        for key, sum_key, sums in programs if not self.offline.dir else ():
            version, given = self._value(key), self._value(sum_key)
            default = SETTINGS[key].field.default
            is_written = SETTINGS[key].name in getattr(self, SETTINGS[key].section).model_fields_set
            if version != default and given is None:
                yield (
                    f"{key}: the deploy knows only the checksum of {default}, the default: write"
                    f" {sum_key}, which is published beside the file of {version}"
                )
            elif not is_written and given not in (None, *sums.values()):
                yield (
                    f"{sum_key}: this is no checksum of {version}, the default: leave it out, or"
                    f" write its {key} too"
                )

    def _value(self, key: str) -> Any:
        """The value of the setting with this key."""
        return getattr(getattr(self, SETTINGS[key].section), SETTINGS[key].name)

    def _port_conflicts(self) -> Iterator[str]:
        taken = {API_SERVER_PORT: "the api-server's"}
        for key, port in self.ports.items():
            if port in taken:
                yield f"{key}: {port} is {taken[port]}: write another one"
            taken[port] = key
            # A port of a pod on its node is no listening socket, so nothing else would notice.
            if port in INGRESS_PORTS and self.node_is_host and "ingress" in self.minikube.addons:
                yield (
                    f"{key}: the addon ingress of minikube takes the host's port {port}: write"
                    " another one, or leave the addon out"
                )

    def _cluster_conflicts(self) -> Iterator[str]:
        if self.plugins.source == "host" and not self.node_sees_folders:
            yield (
                'plugins_source: "host" needs a node that sees the host\'s folders, which minikube'
                ' has with minikube_driver = "none", "podman" or "docker": write "image"'
            )
        if self.dags.source == "host" and not self.node_sees_folders:
            yield (
                'dags_source: "host" needs a node that sees the host\'s folders, which minikube'
                ' has with minikube_driver = "none", "podman" or "docker": write "image", "git",'
                ' or "volume_claim" with a claim for a folder that host and nodes share'
            )
        has_network = self.execution_api.network or self.node_is_host or self.has_api_service
        if self.kubernetes.network_policy and not has_network:
            yield (
                "kubernetes_network_policy: a policy contains addresses, not names: write"
                " execution_api_host as an address"
            )
        if self.kubernetes.uses_minikube:
            return
        whose = "the group cluster" if self.cluster_host else 'kubernetes_provider = "existing"'
        needs = f"{whose} needs it; write"
        if self.execution_api.host is None and not self.has_api_service:
            yield (
                f"execution_api_host: {needs} the address at which the cluster's pods reach the"
                " host"
            )
        if self.worker.image is None and self.worker.registry is None:
            yield (
                f"worker_image: {needs} an image that the cluster can pull (or use worker_registry)"
            )
        if self.minikube.addons:
            yield (
                "minikube_addons has no meaning with an existing cluster: leave it out, and ask for"
                " the addons there"
            )

    def _member_conflicts(self) -> Iterator[str]:
        """Settings that only a host alone can have, in a group of several hosts, and vice versa."""
        if not self.members:
            if self.web.virtual_address:
                yield (
                    "web_virtual_address: it moves among several hosts, and this one is alone: name"
                    " the others in its group airflow, or leave it out"
                )
            return
        all_of = f"the hosts of the group airflow ({', '.join(self.members)}) are one Airflow:"
        if self.postgres.is_debians:
            yield (
                f'postgres_provider: {all_of} write "existing", for a PostgreSQL that all of them'
                " reach, name a host for it in the group database, or rename the group airflow"
                " if each host should have an Airflow of its own"
            )
        if self.kubernetes.uses_minikube:
            yield (
                f'kubernetes_provider: {all_of} write "existing", for a cluster that all of them'
                " reach, name a host for it in the group cluster, or rename the group airflow"
                " if each host should have an Airflow of its own"
            )
        if self.dags.source == "host":
            yield (
                f'dags_source: {all_of} write "git", "image", or "volume_claim" with a claim that'
                " all of them mount"
            )
        if self.logs.store == "host":
            yield (
                f'logs_store: {all_of} write "s3", or "volume_claim" with a claim that all of them'
                " mount"
            )

    def reaching(self, address: str, port: int, version: int) -> Self:
        """These settings with the place of the database, where it has a host of its own.

        The address is used if the inventory has none. Clients are of the server's version.
        """
        host = next(iter(self.postgres.hosts), address)
        update = {"hosts": [f"{in_url(host)}:{port}"], "version": version}
        return self.model_copy(update={"postgres": self.postgres.model_copy(update=update)})

    def for_release(
        self,
        codename: str,
        postgres: tuple[int, int] | None = None,
        *,
        own_names: tuple[str, ...] = (),
        architecture: str = ARCHITECTURES[0],
        addresses: tuple[str, ...] = (),
        position: int = 0,
        database_clients: tuple[str, ...] = (),
        interface: str = "",
        link_addresses: tuple[str, ...] = (),
        authorities: str = "",
    ) -> HostSettings:
        """These settings on a host with this release, which decides the rest of them.

        `postgres` has version and port of the PostgreSQL cluster, if it is not the release's own,
        and `own_names` the host's names and its address. If several hosts are one Airflow,
        `own_names` has the names of all, `addresses` the address of each, and `position` the index
        of this host; with a group `cluster`, a single host has `addresses` too. With a virtual
        address, `interface` is this host's interface in its network, and `link_addresses` has the
        address of each host there. `authorities` names those that people gave the host that builds
        the worker image. For the host of the group `database`, `database_clients` has the
        addresses from which Airflow's hosts reach it.
        """
        own = self.postgres.version or RELEASES[codename].postgres
        version, port = postgres or (own, POSTGRES_PORT)
        fields = {name: getattr(self, name) for name in Settings.model_fields}
        fields["postgres"] = self.postgres.model_copy(update={"version": version})
        return HostSettings(
            **fields,
            database_clients=database_clients,
            addresses=addresses,
            position=position,
            codename=codename,
            architecture=architecture,
            postgres_port=port,
            own_names=own_names,
            interface=interface,
            link_addresses=link_addresses,
            authorities=authorities,
        )

    @property
    def node_is_host(self) -> bool:
        """Whether the cluster's node is the host itself, and its containerd the node's."""
        return self.kubernetes.uses_minikube and self.minikube.driver == "none"

    @property
    def pods_network(self) -> str:
        """The addresses from which packets of minikube's pods reach the host."""
        return self.minikube.node_network if self.node_engine else self.minikube.pod_network

    @property
    def node_engine(self) -> str | None:
        """The container engine of the host that runs the cluster's node as a container, if so."""
        return self.minikube.engine if self.kubernetes.uses_minikube else None

    @property
    def node_sees_folders(self) -> bool:
        """Whether pods can mount the host's folders of DAGs, plugins and logs."""
        return self.node_is_host or self.node_engine is not None

    @property
    def kubectl(self) -> str:
        """kubectl with the rights to set up the namespace, as the beginning of a shell command."""
        kubeconfig, context = self.kubernetes.admin_kubeconfig, self.kubernetes.context
        # The current context is a person's choice, and may be that of another cluster.
        if self.kubernetes.uses_minikube:
            context = "minikube"
        chosen = f" --context={context}" if context else ""
        return f"/usr/local/bin/kubectl --kubeconfig={kubeconfig}{chosen}"

    @property
    def claims(self) -> dict[str, Claim]:
        """The claims in use, by the key of the setting that names them."""
        given = {"dags_claim": self.dags.claim, "logs_claim": self.logs.claim}
        return {key: claim for key, claim in given.items() if claim}

    @property
    def written_folders(self) -> list[str]:
        """Folders beside the deploy's own that Airflow's services write to."""
        return [self.logs.claim.host_path] if self.logs.claim else []

    @property
    def claims_to_make(self) -> list[Claim]:
        """The claims that the deploy makes, each once."""
        return list({it.name: it for it in self.claims.values() if it.size}.values())

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the deploy's own services, by the key of the setting."""
        ports = {"web_port": self.web.port, "execution_api_port": self.execution_api.port}
        if self.web.is_public:
            ports["web_https_port"] = self.web.https_port
        if self.metrics.port:
            ports["metrics_port"] = self.metrics.port
        return ports

    @property
    def wildcard_address(self) -> str:
        """The wildcard address, in the form that precedes a port.

        It is not always `[::]`, since a host may have no IPv6.
        """
        given = (self.web.host, self.execution_api.host or "")
        return "[::]" if any(":" in address for address in given) else "0.0.0.0"

    @property
    def address_for_pods(self) -> str | None:
        """The address or name at which pods reach the host; none if the host is their node."""
        if self.has_api_service:
            return f"{API_SERVICE}.{self.kubernetes.control_namespace}.svc"
        return self.execution_api.host or (None if self.node_is_host else "host.minikube.internal")

    @property
    def has_api_service(self) -> bool:
        """Whether the cluster has a Service that leads pods to all hosts of this Airflow.

        With `execution_api_host`, a balancer or a name service leads them instead.
        """
        has_addresses = bool(self.members or self.cluster_host)
        return has_addresses and self.execution_api.host is None

    @property
    def execution_api_url(self) -> str:
        """The URL of the Execution API in a pod.

        With driver `none` the pod's node is this host, so Kubernetes itself tells the pod the
        address (status.hostIP), and no file has an address that could become wrong. The other
        drivers of minikube give the host a name inside the cluster.
        """
        address = in_url(self.address_for_pods or "$(HOST_IP)")
        return f"https://{address}:{self.execution_api.port}/execution/"


class HostSettings(Settings):
    """Settings completed by the release and the architecture of their host."""

    codename: str  # of the release
    architecture: str  # one of ARCHITECTURES
    postgres_port: int  # of the PostgreSQL cluster
    own_names: tuple[str, ...]  # the host's names and its address
    addresses: tuple[str, ...] = ()  # of the hosts of this Airflow, in the inventory's order
    position: int = 0  # of this host among them
    # The addresses from which Airflow's hosts reach the database of this host, if they do.
    database_clients: tuple[str, ...] = ()
    # In the network of the virtual address: this host's interface, and the address of each host of
    # this Airflow, in the inventory's order.
    interface: str = ""
    link_addresses: tuple[str, ...] = ()
    authorities: str = ""  # a name for those that the worker image trusts; empty for none
    _computed: dict[Callable[[HostSettings], Any], Any] = PrivateAttr(default_factory=dict)

    @property
    def release(self) -> Release:
        """The host's release."""
        return RELEASES[self.codename]

    @property
    def python(self) -> str:
        """The release's own Python, which another one in /usr/local does not replace."""
        return f"/usr/bin/python{self.release.python}"

    @property
    def is_first(self) -> bool:
        """Whether this host does the work that is needed once for all hosts of this Airflow."""
        return self.position == 0

    @property
    def other_addresses(self) -> list[str]:
        """The addresses of the other hosts of this Airflow."""
        return [each for place, each in enumerate(self.addresses) if place != self.position]

    @cached_property
    def venv_key(self) -> str:
        """The name of a venv with this content."""
        return f"{self.airflow.version}-" + digest(
            self.airflow.lock, *self.airflow.extra_requirements, self.release.python
        )

    @property
    def postgres_cluster(self) -> str:
        """The PostgreSQL cluster, as Debian's programs name it."""
        return f"{self.postgres.version}/main"

    @property
    def sends_metrics(self) -> bool:
        """Whether the inventory says where Airflow's own metrics go; by default they go nowhere."""
        return "metrics" in self.airflow.config or any(
            name.startswith("AIRFLOW__METRICS__") for name in self.dags.env
        )

    @property
    def environment(self) -> dict[str, str]:
        """The variables of each command on the host."""
        own = {"PGCLUSTER": self.postgres_cluster} if self.postgres.is_debians else {}
        return {**own, **self.proxy_environment()}

    def proxy_environment(self, *others: str) -> dict[str, str]:
        """The variables of the proxy; none if there is none.

        The host itself, its cluster and `others` are exceptions.
        """
        cluster = [self.minikube.pod_network, self.minikube.service_network, *MINIKUBE_NAMES]
        exceptions = [
            *("localhost", "127.0.0.1", "::1", *self.own_names),
            *([self.execution_api.host] if self.execution_api.host else []),
            *self.web.host_names,
            *(".svc", ".cluster.local"),
            *(cluster if self.kubernetes.uses_minikube else []),
            *([self.minikube.node_network] if self.node_engine else []),
            *([self.cluster_address] if self.cluster_address else []),
            *others,
        ]
        return self.proxy.environment(exceptions)

    @property
    def venv(self) -> str:
        """Path of the venv, on the host and in the worker image."""
        return f"{VENVS}/{self.venv_key}"


T = TypeVar("T")


def computed_once(function: Callable[[HostSettings], T]) -> Callable[[HostSettings], T]:
    """Keep the result of a function together with the settings that it was computed from."""

    @functools.wraps(function)
    def once(settings: HostSettings) -> T:
        if function not in settings._computed:
            settings._computed[function] = function(settings)
        return cast(T, settings._computed[function])

    return once


SECTIONS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}


class Setting(NamedTuple):
    """A setting's place in its section."""

    section: str
    name: str
    field: FieldInfo


# Each setting by its key in an inventory.
SETTINGS = {
    f"{section}_{name}": Setting(section, name, field)
    for section, model in SECTIONS.items()
    for name, field in model.model_fields.items()
}


def _decided_elsewhere(data: Mapping[str, Any], servers: Mapping[str, Server]) -> Iterator[str]:
    """Sentences about settings of a host of Airflow that another host decides."""
    for group, server in servers.items():
        for key in SETTINGS:
            is_its = key.startswith(GROUPS[group].alone)
            if is_its and key in data and data[key] != server.data.get(key):
                yield (
                    f"{key} is a setting of {server.name}, which has {GROUPS[group].has}: write it"
                    " there alone"
                )


@functools.cache
def _pyinfra_keys() -> set[str]:
    connectors = get_all_connectors().values()
    connection = {key for connector in connectors for key in connector.data_cls.__annotations__}
    return connection | {name for name, _ in all_global_arguments()}


def _unknown(key: str) -> str:
    if key in RENAMED:
        return f"{key} is now {RENAMED[key]}: write that name"
    close = difflib.get_close_matches(key, SETTINGS, n=1)
    hint = f"did you mean {close[0]}?" if close else "inventories/README.md lists the settings."
    return f"{key} is not a setting; {hint}"


def _sentence(error: Any) -> str:
    """A sentence about a wrong value, with the right form, from an error of pydantic."""
    section, name, *rest = map(str, error["loc"])
    setting = f"{section}_{name}"
    # A key within a setting is text of its own.
    parts = [each if each.isprintable() else ascii(each) for each in rest if each != "[key]"]
    key = ".".join([setting, *parts])
    if len(key) > LONGEST_KEY:
        key = key[:LONGEST_KEY] + "…"
    if error["type"] == "extra_forbidden":
        return _unknown(key)
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}"
    message = error["msg"].replace("Input should be", "should be")
    if error["type"] == "string_pattern_mismatch":
        form = error["ctx"]["pattern"].removeprefix("^(?:").removesuffix(")$")
        message = f"should have the form {form}"
    # A setting with repr=False may contain something secret, also where its type is wrong.
    found = f", not {shown(error['input'])}" if SETTINGS[setting].field.repr else ""
    return f"{key}: {message[0].lower()}{message[1:]}{found}"
