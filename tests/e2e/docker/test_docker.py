"""minikube's driver docker, in short: the story podman has more of the same.

The image of the node is made of Debian packages and comes with the offline folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks import layout
from tests.e2e.conftest import Shell
from tests.e2e.support import REMOVAL, SLACK, deploy
from tests.sandbox import engines, kicbase, offline
from tests.sandbox.common import ARCHITECTURE
from tests.sandbox.machine import Machine
from tests.support import wait_for

THEIRS = "theirs"
SETTINGS: dict[str, object] = {
    "minikube_driver": "docker",
    "offline_dir": engines.OFFLINE_INSIDE,
    "minikube_addons": ["dashboard"],
}
OLDER_FOLDER = "/srv/offline-node-older"
OLDER: dict[str, object] = {
    "offline_dir": OLDER_FOLDER,
    "kubernetes_version": offline.OLDER.kubernetes.lstrip("v"),
}
PERSON = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
client=$(apt-cache search --names-only '^docker-cli$' | sed 's/ .*//')
apt-get -qq install --yes --no-install-recommends \\
    busybox-static docker.io iptables $client >/dev/null 2>&1
tar -C / -c usr/bin/busybox | docker import - localhost/theirs >/dev/null
docker run -d --name {THEIRS} --restart always localhost/theirs /usr/bin/busybox sleep 1000000
"""


def started(shell: Shell) -> str:
    """When the person's container started, if it runs."""
    form = "{{.State.Running}} {{.State.StartedAt}}"
    running, _, at = shell(f"docker container inspect -f '{form}' {THEIRS}").partition(" ")
    assert running == "true"
    return at


@pytest.fixture(scope="module", autouse=True)
def offline_folder(machine: Machine) -> None:
    """The machine has the image of the node."""
    kicbase.with_kubernetes(Path(f"{machine.root}{engines.OFFLINE_INSIDE}"))


def test_a_docker_with_which_nodes_count_no_disk_is_told_before_it_is_there(
    machine: Machine, shell: Shell
) -> None:
    assert shell("stat -f -c %T /var/lib; command -v docker || true") == "btrfs"
    run = deploy("--dry", settings=SETTINGS)
    # Debian 13's docker takes overlay2 there.
    is_refused = machine.release == "bookworm"
    assert ("keeps images with its storage driver btrfs" in run.output) == is_refused
    assert (run.code != 0) == is_refused


@pytest.fixture(scope="module")
def theirs(machine: Machine, shell: Shell) -> str:
    """When the person's container started."""
    engines.prepare(machine, "docker")
    shell(PERSON)
    return started(shell)


@pytest.fixture(scope="module")
def older(theirs: str, machine: Machine) -> None:
    """Airflow is on the machine, and in its node is the Kubernetes of some versions ago."""
    folder = Path(f"{machine.root}{OLDER_FOLDER}")
    kicbase.with_kubernetes(folder, offline.OLDER)
    # That version's own minikube mounts no folder of the host.
    program = f"minikube-linux-{ARCHITECTURE}"
    shutil.copy(offline.ensure() / program, folder / program)
    (folder / "SHA256SUMS").unlink()
    offline.write_sums(folder)
    offline.add_between(Path(f"{machine.root}{engines.OFFLINE_INSIDE}"))
    run = deploy(settings=SETTINGS | OLDER)
    assert run.code == 0, run.output


@pytest.fixture(scope="module")
def deployed(older: None) -> None:
    """Airflow is on the machine, and its node, which is a container, is of the current version."""
    run = deploy(settings=SETTINGS)
    assert run.code == 0, run.output


@pytest.mark.usefixtures("older")
def test_kubernetes_moves_on_in_the_node(shell: Shell, request: pytest.FixtureRequest) -> None:
    """One minor version at a time; the node is the same, and keeps a person's objects."""
    node = "docker container inspect -f '{{.Id}}' minikube"
    version = "kubectl get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}'"
    assert shell(version) == offline.OLDER.kubernetes
    before = shell(node)
    shell(
        "kubectl create namespace kept && kubectl -n kept create configmap kept --from-literal=a=b"
    )
    request.getfixturevalue("deployed")
    assert shell(version) == offline.CURRENT.kubernetes
    said = shell("journalctl -u minikube -o cat")
    assert f"becomes {offline.BETWEEN.kubernetes.lstrip('v')} on its way" in said
    assert shell("kubectl -n kept get configmap kept -o jsonpath='{.data.a}'") == "b"
    assert shell(node) == before


@pytest.mark.usefixtures("deployed")
def test_the_node_is_a_container_beside_those_of_others(theirs: str, shell: Shell) -> None:
    assert set(shell("docker ps --format '{{.Names}}'").split()) == {THEIRS, "minikube"}
    assert started(shell) == theirs
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    addon = shell("kubectl -n kubernetes-dashboard get deployments -o name").splitlines()
    assert "deployment.apps/kubernetes-dashboard" in addon
    # The DAG came from a folder of the host, and its log is in another one.
    assert shell(f"ls {layout.LOGS}") == "dag_id=airflow_smoke_test"


@pytest.mark.usefixtures("deployed")
def test_a_second_deploy_changes_nothing() -> None:
    run = deploy(settings=SETTINGS)
    assert run.code == 0, run.output
    assert run.changed == []


@pytest.mark.usefixtures("deployed")
def test_the_node_comes_back_when_docker_restarts(theirs: str, shell: Shell) -> None:
    """Which ends all containers; docker itself starts the person's own again."""
    node = "docker container inspect -f '{{.State.StartedAt}}' minikube"
    before = shell(node)
    shell("systemctl restart docker")
    again = f"at=$({node}) && test $at != {before} && systemctl is-active minikube || true"
    wait_for(lambda: shell(again) == "active", 180 + SLACK, "the node is back")
    assert started(shell) != theirs
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    assert deploy(settings=SETTINGS).changed == []


@pytest.mark.usefixtures("deployed")
def test_removal_leaves_the_containers_of_others(shell: Shell) -> None:
    at = started(shell)
    run = deploy(what=REMOVAL, settings=SETTINGS)
    assert run.code == 0, run.output
    assert started(shell) == at
    assert shell("docker ps --all --format '{{.Names}}'") == THEIRS
    assert shell("docker images --format '{{.Repository}}'") == "localhost/theirs"
    assert shell("docker volume ls -q") == ""
    assert "minikube" not in shell("docker network ls --format '{{.Name}}'")
    assert shell("ls -d /opt/airflow /etc/airflow /root/.minikube 2>/dev/null || true") == ""
