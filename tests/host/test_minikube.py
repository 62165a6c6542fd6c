"""The cluster that the deploy brings along."""

from __future__ import annotations

import json

import pytest

from tasks import image
from tasks.settings import Settings
from tests.host.support import Host, complaints


@pytest.fixture(autouse=True)
def _only_with_minikube(settings: Settings) -> None:
    if not settings.uses_minikube:
        pytest.skip("the cluster is not the deploy's")


def test_runs_and_starts_with_the_host(units: dict[str, dict[str, str]]) -> None:
    assert units["minikube.service"]["ActiveState"] == "active"
    assert units["minikube.service"]["UnitFileState"] == "enabled"


def test_airflow_starts_after_it(units: dict[str, dict[str, str]]) -> None:
    assert "minikube.service" in units["airflow-scheduler.service"]["After"].split()


def test_systemd_has_nothing_to_say_against(host: Host) -> None:
    assert complaints(host, "minikube.service") == []


def test_node_is_ready(host: Host, settings: Settings) -> None:
    (node,) = json.loads(host.check_output(f"{settings.kubectl} get nodes -o json"))["items"]
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert conditions["DiskPressure"] == "False"
    assert conditions["MemoryPressure"] == "False"


def test_versions(host: Host, settings: Settings) -> None:
    versions = json.loads(host.check_output(f"{settings.kubectl} version -o json"))
    wanted = f"v{settings.kubernetes_version}"
    assert versions["serverVersion"]["gitVersion"] == wanted
    assert versions["clientVersion"]["gitVersion"] == wanted
    version = host.check_output("HOME=/root /usr/local/bin/minikube version --short")
    assert version == f"v{settings.minikube_version}"


def test_crictl_has_the_pinned_version(host: Host, settings: Settings) -> None:
    if not settings.node_is_host:
        pytest.skip("only driver none needs crictl")
    version = host.check_output("/usr/local/bin/crictl --version")
    assert version == f"crictl version v{settings.crictl_version}"


def test_system_pods_run(host: Host, settings: Settings) -> None:
    pods = json.loads(host.check_output(f"{settings.kubectl} -n kube-system get pods -o json"))
    phases = {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods["items"]}
    assert any(name.startswith("coredns") for name in phases)
    assert set(phases.values()) == {"Running"}


def test_cluster_has_the_worker_image(host: Host, settings: Settings) -> None:
    reference = image.reference(settings)
    if settings.worker_image and not settings.worker_image.startswith("localhost/"):
        pytest.skip("the cluster pulls the image when it needs it")
    images = (
        "ctr -n k8s.io images ls -q" if settings.node_is_host else "HOME=/root minikube image ls"
    )
    assert reference in host.check_output(images).splitlines()


def test_node_has_no_more_built_images_than_wanted(host: Host, settings: Settings) -> None:
    if not settings.node_is_host:
        pytest.skip("the deploy removes images only where the host is the node")
    names = host.check_output("ctr -n k8s.io images ls -q").splitlines()
    built = {name for name in names if name.startswith(f"{image.LOCAL_REPOSITORY}:")}
    pods = host.check_output(f"{settings.kubectl} get pods -A -o jsonpath={{..image}}").split()
    assert len(built - set(pods) - {image.reference(settings)}) < settings.worker_images_kept


def test_addons_are_enabled(host: Host, settings: Settings) -> None:
    addons = json.loads(host.check_output("HOME=/root minikube addons list -o json"))
    wanted = {name: addons[name]["Status"] for name in settings.minikube_addons}
    assert set(wanted.values()) <= {"enabled"}
