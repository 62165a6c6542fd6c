"""Hosts with another processor: their downloads, their image, and the nodes for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import layout
from tasks.cluster import programs
from tasks.settings import ARCHITECTURES, HostSettings
from tasks.settings.kubernetes import KUBECTL_SHA256
from tasks.settings.minikube import CRICTL_SHA256, MINIKUBE_SHA256
from tasks.worker import image, template
from tests.unit import asked_host, fake
from tests.unit.fake import EXISTING
from tests.unit.stand_ins import Host

LABEL = "kubernetes.io/arch"
LINUX = {"kubernetes.io/os": "linux"}  # which each pod of a task needs
GIVEN = {
    "kubernetes_kubectl_sha256": "1" * 64,
    "minikube_sha256": "2" * 64,
    "minikube_crictl_sha256": "3" * 64,
}
OTHERS = dict.fromkeys(fake.SUMS, "1.35.99")
# An existing cluster that pulls the image that the host builds.
BUILT = {key: value for key, value in EXISTING.items() if key != "worker_image"} | {
    "worker_registry": {"repository": "registry.example/airflow"}
}


def on(architecture: str, given: dict[str, Any] | None = None) -> HostSettings:
    """Settings on a host with this architecture."""
    return fake.settings(given, architecture=architecture)


def selector(settings: HostSettings) -> dict[str, str]:
    """The labels that a node of task pods needs."""
    found: dict[str, str] = template.manifest(settings)["spec"].get("nodeSelector", {})
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_host_installs_the_programs_of_its_architecture(architecture: str) -> None:
    plan = fake.plan(on(architecture))
    others = {*ARCHITECTURES} - {architecture}
    for name, sums in (
        ("kubectl", KUBECTL_SHA256),
        ("minikube", MINIKUBE_SHA256),
        ("crictl", CRICTL_SHA256),
    ):
        (command,) = plan.named(f"Install {name}").commands
        assert f"linux/{architecture}/" in command or f"linux-{architecture}" in command
        assert sums[architecture] in command
        assert not [each for each in others if each in command or sums[each] in command]


def test_all_checksums_differ() -> None:
    sums = [*KUBECTL_SHA256.values(), *MINIKUBE_SHA256.values(), *CRICTL_SHA256.values()]
    assert len({*sums}) == 3 * len(ARCHITECTURES)
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in sums)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_inventorys_own_checksums_count(architecture: str) -> None:
    settings = on(architecture, OTHERS | GIVEN)
    found = [each.sha256 for each in programs.needed(settings, architecture)]
    assert found == [*GIVEN.values()]


# The image


def test_hosts_that_share_a_registry_have_images_of_different_names() -> None:
    names = {image.reference(on(each, BUILT)) for each in ARCHITECTURES}
    assert len(names) == len(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("given", [{}, BUILT], ids=["minikube", "existing"])
def test_pods_of_the_built_image_go_to_nodes_that_can_run_it(
    architecture: str, given: dict[str, Any]
) -> None:
    assert selector(on(architecture, given)) == {LABEL: architecture, **LINUX}


def test_pods_of_the_inventorys_image_go_to_each_architecture() -> None:
    """Such an image may be for several architectures."""
    assert selector(on("arm64", {"worker_image": "localhost/other:1"})) == LINUX
    containers = [{"name": "base", "image": "registry.example/other:1"}]
    override = {"worker_pod_override": {"spec": {"containers": containers}}}
    assert selector(on("arm64", override)) == LINUX


def test_the_inventorys_own_labels_are_kept_and_win(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"nodeSelector": {"disk": "ssd"}}
    wanted = {LABEL: "arm64", "disk": "ssd", **LINUX}
    assert selector(on("arm64", {"worker_pod_override": {"spec": spec}})) == wanted
    own = tmp_path / "own.yaml"
    base = {"name": "base"}
    for container, found in ((base, wanted), ({**base, "image": "x"}, {"disk": "ssd", **LINUX})):
        manifest = {"restartPolicy": "Never", "containers": [container], **spec}
        own.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "spec": manifest}))
        assert selector(on("arm64", {"worker_pod_template": str(own)})) == found
    other = {"nodeSelector": {LABEL: "amd64"}}
    override = {"worker_pod_override": {"spec": other}}
    assert selector(on("arm64", override)) == {LABEL: "amd64", **LINUX}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_trial_of_the_image_goes_where_tasks_go(architecture: str) -> None:
    plan = fake.plan(on(architecture, BUILT))
    trial = yaml.safe_load(plan.uploads[layout.TRIAL_POD])
    assert trial["spec"]["nodeSelector"] == {LABEL: architecture, **LINUX}


# The cluster's nodes

NODES = "cluster-nodes.sh"


def test_a_cluster_without_a_fitting_node_ends_the_deploy(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for there, wanted, fits in (
        ("linux/amd64 linux/arm64 ", "arm64", True),
        ("windows/amd64 linux/amd64 ", "amd64", True),
        ("", "arm64", True),  # a cluster that starts its nodes when pods wait
        ("linux/amd64 linux/amd64 ", "arm64", False),
        ("linux/arm64 ", "amd64", False),
        ("windows/amd64 ", "amd64", False),
    ):
        host.program("kubectl", f'case "$*" in *"get nodes"*) printf %s "{there}" ;; esac')
        for said in (host.check(NODES, wanted), host.apply(NODES, wanted)):
            assert (said == "") is fits
            assert fits or (
                f"({there.split()[0]}), and" in said and f"its own, linux/{wanted}" in said
            )


def test_a_cluster_that_does_not_show_its_nodes_is_left_alone(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.program("kubectl", 'echo "Forbidden" >&2; exit 1')
    assert host.check(NODES, "arm64") == ""


def test_preflight_asks_for_the_system_of_nodes_too(tmp_path: Path) -> None:
    host = asked_host.Host(tmp_path)
    kinds = "windows/amd64 linux/arm64"
    said = f'case "$*" in *operatingSystem*/*architecture*) echo "{kinds} " ;; esac'
    host.program("kubectl", said)
    host.variables |= {"kubectl": f"{host.bin}/kubectl -n airflow", "nodes": "yes"}
    assert host.ask(question="ask_nodes") == {"node": kinds.split()}


def test_the_nodes_are_looked_at_before_the_cluster_changes() -> None:
    plan = fake.plan(on("arm64", BUILT))
    place = plan.position("Look for a node that can run the worker image")
    assert plan.operations[place].commands == [f"/usr/local/lib/airflow/{NODES} apply arm64"]
    assert plan.position("Install kubectl") < place
    changing = re.compile("cluster-objects|pod-policy|kubeconfig|image-trial|claim.sh")
    first = next(n for n, it in enumerate(plan.operations) if changing.search(str(it.commands)))
    assert place < first
    for given in (EXISTING, {}):
        assert not [each for each in fake.plan(on("arm64", given)).names if "Look for a" in each]


# The offline folder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_minikube_finds_offline_programs_where_it_looks(tmp_path: Path, architecture: str) -> None:
    host = Host(tmp_path)
    host.program("dpkg", f"echo {architecture}")
    for each in ("kubeadm", "kubectl", "kubelet"):
        (tmp_path / each).write_text("of no size that a program has")
    said = host.check("offline-files.sh", str(tmp_path), "0.0.0")
    assert f"/root/.minikube/cache/linux/{architecture}/v0.0.0/kubeadm is not" in said
