"""The questions to a host, and its answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pyinfra.api import FactBase

from tasks import layout
from tasks.cluster import programs, releases
from tasks.lib import lock, terminal
from tasks.lib.shell import assignments
from tasks.settings import ARCHITECTURES, Settings
from tasks.worker import plugins
from tasks.worker.registry import Reference

QUESTIONS = Path(__file__).parent / "questions.sh"
NEIGHBOURS = Path(__file__).parent / "neighbours.sh"
INDEX_SERVERS = ("pypi.org", "files.pythonhosted.org")
UV_CONFIG = "/etc/uv/uv.toml"  # of the host
PROGRAMS = ("/usr", "/usr/local", "/root")  # folders of packages, of programs and of minikube
API_PORT = 8443  # of the cluster, on its node

# Ports of minikube's node that another Kubernetes on the same machine would hold, with the program
# of minikube that holds each: https://kubernetes.io/docs/reference/networking/ports-and-protocols/
CLUSTER_PORTS = {2379: "etcd", 8443: "kube-apiserver", 10250: "kubelet"}

# The keys of a kubeconfig whose lines may leave the host: they show the structure of the file and
# hold no secret. Without the lines of other keys the text still is YAML.
SAFE_KEYS = (
    *("apiVersion", "kind", "current-context", "clusters", "cluster", "contexts", "context"),
    *("users", "user", "name", "namespace", "server", "certificate-authority"),
    *("client-certificate", "client-key", "exec", "command", "env", "extensions", "extension"),
)


class Report(NamedTuple):
    """A host's answers by question, each a list."""

    values: dict[str, list[str]]

    def one(self, key: str) -> str:
        """The only answer to a question, empty if there is none."""
        return next(iter(self.values.get(key, [])), "")

    def all(self, key: str) -> list[str]:
        """All answers to a question."""
        return self.values.get(key, [])

    @property
    def codename(self) -> str:
        """The name of the host's release, empty if it did not tell."""
        return self.one("system").partition(" ")[2]


class HostReport(FactBase[Report]):
    """All answers of a host, in one round trip."""

    def command(self, variables: str) -> str:
        """The questions, below the assignments of the variables that they use."""
        # The time is the last answer, so that it is new when it arrives.
        asked = 'ask_neighbours\nsay time "$(date +%s)"\n'
        given = variables + as_function("own-addresses.sh")
        return given + QUESTIONS.read_text() + NEIGHBOURS.read_text() + asked

    @staticmethod
    def default() -> Report:
        """No answers at all."""
        return Report({})

    def process(self, output: Iterable[str]) -> Report:
        """Collect the answers by question, with `ahead`: seconds that the host's clock is ahead of
        this machine's."""
        values: dict[str, list[str]] = {}
        for line in output:
            # Processes, clusters and other people choose these words; none may drive the terminal.
            key, _, value = terminal.printable(line).partition(" ")
            values.setdefault(key, []).append(value)
        for told in values.get("time", []):
            values["ahead"] = [f"{float(told) - time.time():.1f}"]
        return Report(values)


def as_function(program: str) -> str:
    """A shell function that is one of the deploy's programs, for a host that may not have it yet.

    The function of `own-name.sh` is `own_name`.
    """
    text = (layout.ROOT / "files" / layout.LIB.lstrip("/") / program).read_text()
    return f"{program.removesuffix('.sh').replace('-', '_')}() {{\n{text}}}\n"


def variables(settings: Settings, lock_owner: str) -> str:
    """Assignments of the variables that the questions use, and the question about the lock."""
    image = settings.worker.image or ""
    given = [each.get("metadata", {}).get("name") for each in settings.kubernetes.extra_manifests]
    claims = [
        f"{key} {claim.name} {claim.host_path}\n"
        for key, claim in settings.claims.items()
        if not claim.size and claim.name not in given
    ]
    values = {
        **of_cluster(settings),
        "claims": "".join(claims),
        "migrated": layout.MIGRATED,
        "kubectl": f"{settings.kubectl} -n {settings.kubernetes.namespace}",
        "own_ports": " ".join(f"{port}:{unit}" for port, (_, unit) in own_ports(settings).items()),
        "index_urls": " ".join(index.url for index in settings.build.indexes.values()),
        "pip_config": layout.PIP_CONFIG,
        # That of the group `cluster` comes with the deploy.
        "kubeconfig": "" if settings.cluster_host else settings.kubernetes.kubeconfig or "",
        "web_host": settings.web.host if settings.web.is_public else "",
        "address_config": layout.ADDRESS_CONFIG if settings.web.virtual_address else "",
        "restore_mark": layout.RESTORE_MARK,
        "safe_keys": "|".join(SAFE_KEYS),
        "registry_host": _registry(settings),
        **of_places(settings),
        "first_user": settings.web.admin_user,
        "users_made": layout.USERS_MADE,
        "test_user": layout.SMOKE_TEST_USER if settings.airflow.smoke_test else "",
        "web_users": " ".join(settings.web.users),
        "smoke_passed": layout.SMOKE_TEST_PASSED,
        "acl_folders": f"{layout.DAGS} {layout.PLUGINS}",
        "mounted_folders": " ".join(_mounted_folders(settings)),
        "own_users": f"{layout.CONTROL_USER} {layout.DAGS_USER}",
        "airflow_uid": str(settings.airflow.uid),
        "firewall_ports": _firewall_ports(settings),
        # That of web_port is for this host alone.
        "reached_ports": " ".join(
            str(port) for key, port in settings.ports.items() if key != "web_port"
        ),
        "uv_config": UV_CONFIG,
        **_of_index(settings),
        # The image that the deploy builds is of the host's architecture.
        "nodes": "" if settings.kubernetes.uses_minikube or settings.worker.image else "yes",
        # Only a node that is the host can list its images for preflight.
        "local_image": image if settings.node_is_host and is_local(image) else "",
    }
    return assignments(values) + lock.asking(lock_owner)


def of_places(settings: Settings) -> dict[str, str]:
    """The values of the questions about the deploy's own places."""
    # The inventory may name files of people that are in the deploy's folders.
    named = (settings.offline.dir, settings.kubernetes.kubeconfig)
    claims = (claim.host_path for claim in settings.claims.values())
    brought = filter(None, (*layout.BROUGHT, *named, *claims))
    return {
        "state": layout.STATE,
        "units_directory": layout.UNITS_DIRECTORY,
        "brought_paths": " ".join(brought),
        "disks": " ".join((*layout.DISKS, *PROGRAMS, "/tmp")),
        "new_paths": " ".join(layout.NEW),
        "own_folders": " ".join(layout.DIRECTORIES),
        "nginx_site": layout.NGINX_SITE,
        "exporter": layout.METRICS_PACKAGE if settings.metrics.port is not None else "",
        "exporter_drop_in": layout.METRICS_DROP_IN,
    }


def of_cluster(settings: Settings) -> dict[str, str]:
    """The values of the questions about minikube, its node, and the downloads of both."""
    return {
        "minikube_profile": layout.MINIKUBE_PROFILE if settings.kubernetes.uses_minikube else "",
        "minikube_files": "kubeadm kubelet" if settings.kubernetes.uses_minikube else "",
        "kubernetes_version": f"v{settings.kubernetes.version}",
        "offline_dir": settings.offline.dir or "",
        "offline_files": " ".join(
            f"{each}:{file}"
            for each in ARCHITECTURES
            for file in programs.offline_files(settings, each)
        ),
        "node_mount": layout.NODE_MOUNT if settings.node_engine else "",
        "offline_between": " ".join(releases.way(settings)[:-1]),
        "offline_stamp": layout.OFFLINE_STAMP,
        "download_hosts": " ".join(
            sorted({d.host for d in programs.needed(settings, ARCHITECTURES[0])})
        ),
        "image_hosts": " ".join(programs.image_hosts(settings)),
        "cluster_ports": (
            " ".join(f"{port}:{name}" for port, name in CLUSTER_PORTS.items())
            if settings.node_is_host
            else ""
        ),
        "proxy": _host_and_port(settings.proxy.url) if settings.proxy.url else "",
        "node_is_host": "yes" if settings.node_is_host else "",
        "node_engine": settings.node_engine or "",
        "engine_packages": " ".join(engine_alternatives(settings.node_engine)),
        "pod_network": settings.pods_network,
        "firewall_ways": " ".join(_firewall_ways(settings)),
    }


def engine_alternatives(engine: str | None) -> list[str]:
    """The Debian packages of which a container engine may be."""
    return layout.ENGINE_PACKAGES[engine][0].split("|") if engine else []


def _of_index(settings: Settings) -> dict[str, str]:
    """The values of the question about the host's own index.

    A default of `build_indexes` comes before all others, for pip and uv; `index_urls` has it.
    """
    if settings.build.default_index:
        return {}
    pip_files = "/etc/pip.conf /root/.config/pip/pip.conf /root/.pip/pip.conf"
    return {
        "pip_files": pip_files,
        # With indexes of the inventory uv reads none of these.
        "index_files": "" if settings.build.indexes else f"{UV_CONFIG} /root/.config/uv/uv.toml",
        "index_servers": " ".join(INDEX_SERVERS),
    }


def _mounted_folders(settings: Settings) -> Iterator[str]:
    """The host's folders of DAGs and plugins that pods mount."""
    if settings.dags.source == "host":
        yield layout.DAGS
    if plugins.are_mounted(settings):
        yield layout.PLUGINS


def _firewall_ports(settings: Settings) -> str:
    """The ports of the host that pods must reach."""
    if settings.node_is_host:
        return f"{API_PORT} {settings.execution_api.port}"
    return str(settings.execution_api.port) if settings.node_engine else ""


def _firewall_ways(settings: Settings) -> Iterator[str]:
    """Other packets of the cluster that pass the host's firewall, as «hook/protocol/port»."""
    if settings.node_is_host:
        yield "forward/udp/53"  # from pods to the cluster's DNS, and from there to the host's
        yield "output/tcp/8181"  # kubelet asks the cluster's DNS whether it is ready
    if settings.node_engine:
        yield "forward/tcp/443"
        yield f"output/tcp/{API_PORT}"
    if settings.node_engine == "podman":
        yield "input/udp/53"


def _host_and_port(url: str) -> str:
    """The name and the port of a proxy, as two words."""
    parts = urlsplit(url)
    return f"{parts.hostname} {parts.port or 80}"


def own_ports(settings: Settings) -> dict[int, tuple[str, str]]:
    """Ports of the deploy's own services: the setting, if any, and the unit that may hold it.

    systemd itself holds the port of the web page, which the api-server had in an earlier version.
    """
    units = {"web_port": "airflow-", "metrics_port": layout.METRICS_UNIT}
    ports = {port: (key, units.get(key, layout.NGINX_UNIT)) for key, port in settings.ports.items()}
    return {layout.API_SERVER_PORT: ("", "airflow-api-server"), **ports}


def _registry(settings: Settings) -> str:
    """The registry of the worker image, with its port; empty if none is asked for it."""
    if settings.worker.registry:
        return settings.worker.registry.host
    image = settings.worker.image
    return Reference.parse(image).registry if image and not is_local(image) else ""


def is_local(image: str) -> bool:
    """Whether an image comes from no registry, but was loaded into the nodes."""
    return image.startswith("localhost/")
