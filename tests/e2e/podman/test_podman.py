"""minikube's driver podman: the cluster's node is a container of the host, beside other people's.

The image of the node is made of Debian packages and comes with the offline folder.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks import layout
from tests.e2e.conftest import Shell
from tests.e2e.runs import healthy
from tests.e2e.snapshots import LEFT, LOOK_AT_HOST
from tests.e2e.support import REMOVAL, SLACK, Airflow, bring_dag, deploy, log_in
from tests.sandbox import engines, kicbase
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

SETTINGS: dict[str, object] = {
    "minikube_driver": "podman",
    "offline_dir": engines.OFFLINE_INSIDE,
}
BEFORE = "/srv/host-with-podman"
THEIRS = "theirs"
NODE = "podman container inspect -f '{{.State.StartedAt}}' minikube"  # when it started
# A person's podman with a container, which starts again with the host. It needs no network, and so
# no nftables on Debian 13, which the deploy has to bring.
PERSON = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends \\
    busybox-static iptables netavark podman >/dev/null 2>&1
tar -C / -c usr/bin/busybox | podman import -q - localhost/theirs >/dev/null
podman run -d --name {THEIRS} --network none --restart always localhost/theirs \\
    /usr/bin/busybox sleep 1000000
systemctl enable --quiet podman-restart
{LOOK_AT_HOST} > {BEFORE}
"""
# Things that a reboot takes away or makes, and folders of podman's own.
OF_OTHERS = re.compile(
    r"[<>] (file|mount) (/run/.*|/tmp/tmp\..*|/var/lib/cni(/networks)?"
    r"|/etc/containers/networks|/var/lib/containers/storage/(secrets|tmp|volumes)(/.*)?"
    r"|/var/lib/containers/storage/overlay-\w+/volatile-\w+\.json"
    r"|/var/lib/systemd/deb-systemd-helper-enabled/[\w.]+/podman-restart\.service)$"
)
DAG = "e2e_in_container"
TEXT = """
from airflow.sdk import dag, task


@dag(dag_id="{dag}", schedule=None)
def one():
    @task
    def hello():
        print("hello says {words}")

    hello()


one()
"""


@pytest.fixture(scope="module")
def theirs(machine: Machine, shell: Shell) -> str:
    """When the person's container started."""
    # Also where minikube could download one: the settings name the folder.
    kicbase.with_kubernetes(Path(f"{machine.root}{engines.OFFLINE_INSIDE}"))
    engines.prepare(machine, "podman")
    shell(PERSON)
    return started(shell)


@pytest.fixture(scope="module")
def airflow(theirs: str, machine: Machine) -> Airflow:
    """Airflow, whose node is a container."""
    run = deploy(settings=SETTINGS)
    assert run.code == 0, run.output
    return log_in(machine)


def started(shell: Shell) -> str:
    """When the person's container started, if it runs."""
    form = "{{.State.Running}} {{.State.StartedAt}}"
    running, _, at = shell(f"podman container inspect -f '{form}' {THEIRS}").partition(" ")
    assert running == "true"
    return at


def says(words: str, airflow: Airflow, shell: Shell) -> None:
    """A run of the DAG succeeds and says the words, in a log that the host has as a file."""
    run = airflow.trigger(DAG)
    wait_for(lambda: airflow.run_state(DAG, run) == "success", 120 + SLACK, "it succeeds")
    assert f"hello says {words}" in airflow.log(DAG, run, "hello")
    path = f"{layout.LOGS}/dag_id={DAG}/run_id={run}/task_id=hello/attempt=1.log"
    assert f"hello says {words}" in shell(f"cat '{path}'")


def test_a_broken_engine_is_refused_in_a_sentence(theirs: str, shell: Shell) -> None:
    """Nothing is changed."""
    configuration = "/etc/containers/containers.conf"
    shell(f'sed -i.right \'s/"runc"/"none-such"/\' {configuration}')
    run = deploy(settings=SETTINGS)
    shell(f"mv {configuration}.right {configuration}")
    assert run.code != 0 and "nothing was changed" in run.output
    assert "minikube_driver: podman is here and does not work" in run.output
    assert shell("ls -d /etc/airflow 2>/dev/null || true") == ""


def test_the_node_is_a_container_beside_those_of_others(
    airflow: Airflow, theirs: str, shell: Shell
) -> None:
    assert set(shell("podman ps --format '{{.Names}}'").split()) == {THEIRS, "minikube"}
    assert started(shell) == theirs
    # Nothing of Kubernetes is on the host itself.
    assert shell("ls -d /etc/kubernetes /etc/containerd /var/lib/kubelet 2>/dev/null || true") == ""
    assert shell("kubectl get nodes -o jsonpath='{.items[*].metadata.name}'") == "minikube"
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_a_second_deploy_changes_nothing(airflow: Airflow) -> None:
    run = deploy(settings=SETTINGS)
    assert run.code == 0, run.output
    assert run.changed == []


def test_dags_and_logs_are_in_folders_of_the_host(airflow: Airflow, shell: Shell) -> None:
    bring_dag(DAG, shell, TEXT.format(dag=DAG, words="one"))
    says("one", airflow, shell)


def test_the_node_keeps_the_worker_image_when_its_disk_is_full(
    airflow: Airflow, shell: Shell
) -> None:
    """No registry has it."""
    (image,) = re.findall(r"image: (\S+)", shell(f"cat {layout.POD_TEMPLATE}"))
    pinned = 'labels."io.cri-containerd.pinned"==pinned'
    listed = shell(f"podman exec minikube ctr -n k8s.io images ls -q 'name=={image},{pinned}'")
    assert listed == image


CERTIFICATE = "/var/lib/minikube/certs/apiserver-kubelet-client.crt"
# Signs the certificate again, for 20 days.
ENDS_SOON = f"""
cd /var/lib/minikube/certs
openssl x509 -in {CERTIFICATE} -signkey apiserver-kubelet-client.key -x509toreq -out /root/rt.csr
printf 'extendedKeyUsage = clientAuth\\nkeyUsage = critical, digitalSignature\\n' > /root/rt.ext
openssl x509 -req -in /root/rt.csr -CA ca.crt -CAkey ca.key -days 20 -set_serial 7 \\
    -extfile /root/rt.ext -out {CERTIFICATE} 2>/dev/null
"""


def test_a_certificate_of_the_node_that_ends_soon_is_renewed_by_the_timer(
    airflow: Airflow, shell: Shell
) -> None:
    """Its containers start again, and neither the node nor those of others."""
    theirs = started(shell)
    before = shell(NODE)
    shell(f"podman exec -i minikube sh -e <<'END'\n{ENDS_SOON}\nEND")
    valid = "podman exec minikube openssl x509 -noout -in"
    days = 86400
    said = shell(f"{valid} {CERTIFICATE} -checkend {30 * days} || true")
    assert said == "Certificate will expire"
    shell("systemctl start airflow-certificate")  # as its timer does
    shell(f"{valid} {CERTIFICATE} -checkend {300 * days}")
    # With it the cluster's API asks kubelet, as for a pod's log.
    wait_for(
        lambda: shell("kubectl -n kube-system logs --tail=1 etcd-minikube 2>&1 || true"),
        60 + SLACK,
        "kubelet answers",
    )
    says("one", airflow, shell)
    assert shell(NODE) == before and started(shell) == theirs
    assert deploy(settings=SETTINGS).changed == []


def test_an_upgrade_of_podman_leaves_the_node_alone(airflow: Airflow, shell: Shell) -> None:
    """With control groups of version 1, as this machine may have them, systemd then takes some of
    the node's away, and no pod starts until the node does; Debian has version 2."""
    before = shell(NODE)
    packages = "conmon netavark podman runc"
    shell(f"DEBIAN_FRONTEND=noninteractive apt-get -qq install --reinstall --yes {packages}")
    assert shell(NODE) == before
    assert shell("kubectl get --raw=/readyz") == "ok"


def test_the_node_stops_and_starts_with_its_unit(airflow: Airflow, shell: Shell) -> None:
    theirs = started(shell)
    shell("systemctl stop minikube")
    assert shell("podman ps --format '{{.Names}}'") == THEIRS
    shell("systemctl start minikube")
    says("one", airflow, shell)
    assert started(shell) == theirs


def test_a_node_whose_container_ends_starts_again(airflow: Airflow, shell: Shell) -> None:
    theirs = started(shell)
    before = shell(NODE)
    shell("podman kill minikube")
    again = f"test \"$({NODE})\" != '{before}' && systemctl is-active minikube || true"
    wait_for(lambda: shell(again) == "active", 180 + SLACK, "the node is back")
    says("one", airflow, shell)
    assert started(shell) == theirs
    assert deploy(settings=SETTINGS).changed == []


def test_all_of_it_comes_back_with_the_host(
    airflow: Airflow, machine: Machine, shell: Shell
) -> None:
    """A file that was changed meanwhile counts in the next run."""
    machines.reboot(machine.name)
    wait_for(lambda: healthy(airflow), 240, "Airflow is healthy again")
    started(shell)
    shell(f"sed -i 's/hello says one/hello says two/' {layout.DAGS}/{DAG}.py")
    says("two", airflow, shell)
    assert deploy(settings=SETTINGS).changed == []


def test_a_node_without_the_hosts_folder_is_refused_in_a_sentence(
    airflow: Airflow, shell: Shell
) -> None:
    """As one is that somebody made before the deploy knew of the folder."""
    profile, mount = layout.MINIKUBE_PROFILE, f'^[[:space:]]*"{layout.NODE_MOUNT}",*$'
    shell(f"cp {profile} /srv/profile && sed -i '\\|{mount}|d' {profile}")
    run = deploy(settings=SETTINGS)
    shell(f"cp /srv/profile {profile}")
    assert run.code != 0 and "nothing was changed" in run.output
    assert "was made without the host's /opt/airflow" in run.output
    assert "minikube delete" in run.output


def test_removal_leaves_the_containers_of_others(
    airflow: Airflow, theirs: str, shell: Shell
) -> None:
    at = started(shell)
    run = deploy(what=REMOVAL, settings=SETTINGS)
    assert run.code == 0, run.output
    assert started(shell) == at
    assert shell("podman ps --all --format '{{.Names}}'") == THEIRS
    assert shell("podman images --format '{{.Repository}}'") == "localhost/theirs"
    assert shell("podman network ls --format '{{.Name}}'; podman volume ls -q") == "podman"
    changed = shell(f"{LOOK_AT_HOST} | diff {BEFORE} - || true").splitlines()
    left = [line for line in changed if line[0] in "<>" and not re.match(LEFT, line)]
    left = [line for line in left if not OF_OTHERS.match(line)]
    assert left == [], left
    assert deploy(what=REMOVAL, settings=SETTINGS).changed == []
