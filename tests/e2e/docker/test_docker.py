"""minikube's driver docker, in short: the story podman has more of the same.

The image of the node is made of Debian packages and comes with the offline folder.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import layout
from tests.e2e.conftest import Shell
from tests.e2e.support import REMOVAL, deploy
from tests.sandbox import kicbase
from tests.sandbox.machine import Machine, has_sys_resource

OFFLINE_FOLDER = "/srv/offline-node"
THEIRS = "theirs"
SETTINGS: dict[str, object] = {"minikube_driver": "docker", "offline_dir": OFFLINE_FOLDER}
# Debian 12's docker gives a privileged container every capability that it knows, and this machine
# may lack one; and it has no kernel with modules.
RUNTIME = r"""
cat > /usr/local/sbin/e2e-runc <<'END'
#!/bin/sh
before= file=
for word; do
    case $before in --process) file=$word ;; --bundle) file=$word/config.json ;; esac
    before=$word
done
[ ! -f "$file" ] || sed -i 's/,"CAP_SYS_RESOURCE"//g; s/"CAP_SYS_RESOURCE",//g' "$file"
exec runc "$@"
END
chmod 755 /usr/local/sbin/e2e-runc
"""
ENGINE: dict[str, object] = {"storage-driver": "overlay2"}
ENGINE_HERE = ENGINE | {
    "default-runtime": "e2e",
    "runtimes": {"e2e": {"path": "/usr/local/sbin/e2e-runc"}},
}
CONFIGURATION = "/etc/docker/daemon.json"
PERSON = f"""
export DEBIAN_FRONTEND=noninteractive
mkdir -p /lib/modules
apt-get -qq update
apt-get -qq install --yes --no-install-recommends busybox-static docker.io iptables >/dev/null 2>&1
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
    kicbase.with_kubernetes(Path(f"{machine.root}{OFFLINE_FOLDER}"))


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
    configuration = ENGINE
    if not has_sys_resource():
        shell(RUNTIME)
        configuration = ENGINE_HERE
    shell(f"install -D /dev/stdin {CONFIGURATION} <<'END'\n{json.dumps(configuration)}\nEND")
    shell(PERSON)
    return started(shell)


@pytest.fixture(scope="module")
def deployed(theirs: str) -> None:
    """Airflow is on the machine, and its node is a container."""
    run = deploy(settings=SETTINGS)
    assert run.code == 0, run.output


@pytest.mark.usefixtures("deployed")
def test_the_node_is_a_container_beside_those_of_others(theirs: str, shell: Shell) -> None:
    assert set(shell("docker ps --format '{{.Names}}'").split()) == {THEIRS, "minikube"}
    assert started(shell) == theirs
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    # The DAG came from a folder of the host, and its log is in another one.
    assert shell(f"ls {layout.LOGS}") == "dag_id=airflow_smoke_test"


@pytest.mark.usefixtures("deployed")
def test_a_second_deploy_changes_nothing() -> None:
    run = deploy(settings=SETTINGS)
    assert run.code == 0, run.output
    assert run.changed == []


@pytest.mark.usefixtures("deployed")
def test_removal_leaves_the_containers_of_others(theirs: str, shell: Shell) -> None:
    run = deploy(what=REMOVAL, settings=SETTINGS)
    assert run.code == 0, run.output
    assert started(shell) == theirs
    assert shell("docker ps --all --format '{{.Names}}'") == THEIRS
    assert shell("docker images --format '{{.Repository}}'") == "localhost/theirs"
    assert shell("docker volume ls -q") == ""
    assert "minikube" not in shell("docker network ls --format '{{.Name}}'")
    assert shell("ls -d /opt/airflow /etc/airflow /root/.minikube 2>/dev/null || true") == ""
