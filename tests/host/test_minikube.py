"""The cluster that the deploy brings along."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import Host, only_if

pytestmark = only_if(
    lambda facts: expected.with_minikube(facts.settings), "the cluster is not the deploy's"
)
if_node_is_this_host = only_if(
    lambda facts: expected.node_is_this_host(facts.settings), "the node is not this host"
)
if_image_is_built = only_if(
    lambda facts: expected.builds_image(facts.settings) and expected.shapes_pods(facts.settings),
    "the inventory says which image task pods run",
)


@pytest.fixture(scope="module")
def objects(host: Host, settings: HostSettings) -> list[dict[str, Any]]:
    """The cluster's nodes and pods."""
    text = host.check_output(f"{settings.kubectl} get nodes,pods --all-namespaces -o json")
    return list(json.loads(text)["items"])


@pytest.fixture(scope="module")
def image(pod: dict[str, Any]) -> str:
    """The image that a task's pod runs."""
    return str(pod["spec"]["containers"][0]["image"])


@pytest.fixture(scope="module")
def images(host: Host, settings: HostSettings) -> list[str]:
    """The images that the node has."""
    on_this_host = expected.node_is_this_host(settings)
    listing = "ctr -n k8s.io images ls -q" if on_this_host else "HOME=/root minikube image ls"
    return list(host.check_output(listing).splitlines())


def test_runs_and_starts_with_the_host(units: dict[str, dict[str, str]]) -> None:
    assert units["minikube.service"]["ActiveState"] == "active"
    assert units["minikube.service"]["UnitFileState"] == "enabled"


def test_node_is_ready(objects: list[dict[str, Any]]) -> None:
    (node,) = [each for each in objects if each["kind"] == "Node"]
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert conditions["DiskPressure"] == "False"
    assert conditions["MemoryPressure"] == "False"


def test_versions(host: Host, settings: HostSettings) -> None:
    versions = json.loads(host.check_output(f"{settings.kubectl} version -o json"))
    wanted = f"v{settings.kubernetes.version}"
    assert versions["serverVersion"]["gitVersion"] == wanted
    assert versions["clientVersion"]["gitVersion"] == wanted
    version = host.check_output("HOME=/root /usr/local/bin/minikube version --short")
    assert version == f"v{settings.minikube.version}"


@if_node_is_this_host
def test_crictl_has_the_pinned_version(host: Host, settings: HostSettings) -> None:
    version = host.check_output("/usr/local/bin/crictl --version")
    assert version == f"crictl version v{settings.minikube.crictl_version}"


def test_system_pods_run(objects: list[dict[str, Any]]) -> None:
    phases = {
        each["metadata"]["name"]: each["status"]["phase"]
        for each in objects
        if each["kind"] == "Pod" and each["metadata"]["namespace"] == "kube-system"
    }
    assert any(name.startswith("coredns") for name in phases)
    assert set(phases.values()) == {"Running"}


@only_if(
    lambda facts: (
        expected.shapes_pods(facts.settings)
        and (facts.settings.worker.image or "localhost/").startswith("localhost/")
    ),
    "the cluster pulls the image of the inventory when it needs it",
)
def test_cluster_has_the_worker_image(image: str, images: list[str]) -> None:
    assert image in images


@if_node_is_this_host
@if_image_is_built
def test_node_has_no_more_built_images_than_wanted(
    image: str, images: list[str], objects: list[dict[str, Any]], settings: HostSettings
) -> None:
    repositories = ["localhost/airflow-worker", image.rpartition(":")[0]]
    built = {name for name in images if name.rpartition(":")[0] in repositories}
    used = {
        container["image"]
        for each in objects
        if each["kind"] == "Pod"
        for container in each["spec"]["containers"]
    }
    # The current one is among those that are kept.
    assert len(built - used - {image}) <= settings.retention.worker_images - 1


def _canonical(package: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", package).lower()


@if_image_is_built
def test_image_has_the_packages_of_this_host(image: str, host: Host) -> None:
    tag = image.rpartition(":")[2]
    python = "/opt/airflow/uv/bin/uv --no-cache pip list --format json --python /opt/airflow/venv"
    listed, venv = host.check_output(
        f"cat /opt/airflow/image/{tag}/python.cdx.json && echo && echo === && {python}"
    ).split("\n===\n")
    in_image = {
        (_canonical(each["name"]), each["version"]) for each in json.loads(listed)["components"]
    }
    on_host = {(_canonical(each["name"]), each["version"]) for each in json.loads(venv)}
    assert len(on_host) > 100  # Airflow with its providers
    assert in_image == on_host


@if_image_is_built
def test_image_has_the_debian_packages_that_tasks_need(
    image: str, host: Host, settings: HostSettings
) -> None:
    tag = image.rpartition(":")[2]
    listed = json.loads(host.check_output(f"cat /opt/airflow/image/{tag}/debian.cdx.json"))
    names = {each["name"] for each in listed["components"]}
    # git and ssh fetch DAGs, the authorities are for TLS.
    needed = {"ca-certificates", "git", "openssh-client", "python3"}
    assert needed | set(settings.worker.extra_apt_packages) <= names


@only_if(lambda facts: facts.settings.minikube.addons, "the inventory names no addon")
def test_addons_are_enabled(host: Host, settings: HostSettings) -> None:
    addons = json.loads(host.check_output("HOME=/root minikube addons list -o json"))
    wanted = settings.minikube.addons
    assert {name: addons[name]["Status"] for name in wanted} == dict.fromkeys(wanted, "enabled")
