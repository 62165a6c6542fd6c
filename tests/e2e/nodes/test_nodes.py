"""A host runs its tasks on two nodes: its own registry, DAGs from the image, from git and from a
claim, logs in S3, a network policy that is enforced, and nodes that are drained or die."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client

from tests.e2e import runs, second_node
from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, dag
from tests.e2e.servers import GitServer, RegistryServer, S3Server
from tests.e2e.support import (
    DAGS,
    SLACK,
    Airflow,
    Deploy,
    deploy,
    inventory_with,
    log_in,
    write_file,
)
from tests.sandbox import common
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

KUBECONFIG = "/root/cluster.yaml"
BUCKET = "nodes-logs"
LOOKING, WAITING = "e2e_nodes", "e2e_patient"
NAMESPACE = "nodes"  # of this host's task pods
LISTENER = 7999
# Tasks prefer the second node; one that is drained or dead takes none.
PREFERRED = {
    "weight": 100,
    "preference": {"matchExpressions": [{"key": "e2e", "operator": "In", "values": ["second"]}]},
}
CLASS = """
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: e2e-late}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: e2e-dags}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: e2e-late
  local: {{path: /srv/dags}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions:
        - {{key: kubernetes.io/hostname, operator: In, values: [{node}]}}
"""


@pytest.fixture(scope="module")
def second(machine: Machine, shell: Shell) -> Iterator[Machine]:
    """The second node. The first one's own Airflow has nothing to do."""
    shell("systemctl stop airflow.target")
    it = machines.create(f"{machine.name}-node", machine.release)
    second_node.join(machine, it)
    shell(f"kubectl label node {machine.name} e2e=first && kubectl label node {it.name} e2e=second")
    yield it
    machines.remove(it.name)


@pytest.fixture(scope="module")
def host(machine: Machine, second: Machine, shell: Shell) -> Iterator[Machine]:
    """The host of Airflow, with a kubeconfig of the cluster."""
    it = machines.create(f"{machine.name}-other", machine.release)
    text = shell("kubectl config view --kubeconfig=/root/.kube/config --minify --flatten --raw")
    write_file(it, KUBECONFIG, text, "600")
    yield it
    machines.remove(it.name)


@pytest.fixture(scope="module")
def git(machine: Machine) -> GitServer:
    """A git server with one repository."""
    server = GitServer(machine).start()
    server.create("team")
    server.push("team", {"e2e_from_git.py": dag("e2e_from_git", "git")})
    return server


@pytest.fixture(scope="module")
def settings(
    machine: Machine,
    second: Machine,
    host: Machine,
    git: GitServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """The host's settings."""
    s3, registry = S3Server(machine).start(), RegistryServer(machine).start()
    s3.create_bucket(BUCKET)
    for node in (machine, second):  # the deploy does not change nodes of others
        path = "/usr/local/share/ca-certificates/e2e.crt"
        write_file(node, path, registry.ca_certificate)
        machines.run(node, "update-ca-certificates && systemctl restart containerd")
    folder = tmp_path_factory.mktemp("dags")
    (folder / f"{WAITING}.py").write_text(dag(WAITING, "hello"))
    (folder / f"{LOOKING}.py").write_text((DAGS / f"{LOOKING}.py").read_text())
    token = {"conn_type": "git", "login": git.user, "password": git.token}
    return {
        "kubernetes_provider": "existing",
        "kubernetes_kubeconfig": KUBECONFIG,
        "kubernetes_namespace": NAMESPACE,
        "kubernetes_network_policy": True,
        "kubernetes_allowed_networks": [f"{machine.address}/32"],  # S3 and git
        "execution_api_host": host.address,
        "worker_registry": {
            "repository": f"{registry.address}/team/airflow-worker",
            "username": registry.user,
            "password": registry.password,
            "ca_certificate": registry.ca_certificate,
        },
        "worker_pod_override": {
            "spec": {
                "affinity": {
                    "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [PREFERRED]}
                }
            }
        },
        "dags_source": "image",
        "dags_local_folder": str(folder),
        "logs_store": "s3",
        "logs_s3": {"folder": f"s3://{BUCKET}/tasks", "connection": "logs"},
        "airflow_connections": {"logs": s3.connection, "git_token": token},
        # A task on a node that died is given up after a minute instead of five.
        "airflow_config": {"scheduler": {"task_instance_heartbeat_timeout": "60"}},
        "airflow_examples": False,
    }


@pytest.fixture(scope="module")
def deployed(
    settings: dict[str, Any], host: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Deploy]]:
    """Deploys to the host, with settings that differ from those above."""
    folder = tmp_path_factory.mktemp("inventory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_SANDBOX", host.name)
        yield lambda **more: deploy(inventory=inventory_with(settings | more, folder))


@pytest.fixture(scope="module")
def on_nodes(deployed: Callable[..., Deploy], host: Machine) -> Airflow:
    """Airflow on the host, whose smoke test's pod has run; a second deploy changes nothing."""
    run = deployed()
    assert run.code == 0, run.output
    assert deployed().changed == []
    listen = "systemd-run -q --collect --unit=e2e-listener python3 -m http.server"
    machines.run(host, f"{listen} {LISTENER}")
    wait_for(
        lambda: machines.run(host, f"ss -Hltn sport = :{LISTENER}").stdout, 20 + SLACK, "it listens"
    )
    return log_in(host)


def nodes_of(everything: client.CoreV1Api, dag_id: str) -> set[str]:
    """The nodes of a DAG's pods that run now, as far as the cluster knows."""
    pods = everything.list_namespaced_pod(NAMESPACE, label_selector=f"dag_id={dag_id}").items
    return {pod.spec.node_name for pod in pods if pod.status.phase == "Running"}


def looked(airflow: Airflow, host: Machine, machine: Machine) -> dict[str, dict[str, str]]:
    """By node: which addresses its task reaches."""
    wanted = [
        f"{host.address}:8081",  # the Execution API
        f"{machine.address}:{S3Server.port}",
        f"{host.address}:{LISTENER}",
        f"{host.address}:443",
    ]
    Runs(airflow).set("e2e_addresses", " ".join(wanted))
    run = airflow.trigger(LOOKING)
    runs.ends_well(airflow, LOOKING, run)
    said: dict[str, dict[str, str]] = {"first": {}, "second": {}}

    def all_said() -> bool:
        for task, lines in said.items():
            words = re.findall(r"(open|closed) (\S+:\d+)", airflow.log(LOOKING, run, task))
            lines.update({address: word for word, address in words})
        return all(len(lines) == len(wanted) for lines in said.values())

    wait_for(all_said, 60, "the logs are there", every=1)
    return said


def test_tasks_run_where_their_labels_say_and_reach_only_what_the_policy_allows(
    on_nodes: Airflow, host: Machine, machine: Machine
) -> None:
    api, s3 = f"{host.address}:8081", f"{machine.address}:{S3Server.port}"
    for reached in looked(on_nodes, host, machine).values():
        assert {address for address, word in reached.items() if word == "open"} == {api, s3}


def test_a_network_that_the_inventory_allows_is_reached(
    on_nodes: Airflow, deployed: Callable[..., Deploy], host: Machine, machine: Machine
) -> None:
    allowed = [f"{machine.address}/32", f"{host.address}/32"]
    run = deployed(kubernetes_allowed_networks=allowed)
    assert run.code == 0, run.output
    for reached in looked(on_nodes, host, machine).values():
        assert {*reached.values()} == {"open"}
    assert deployed().code == 0


def test_a_task_of_a_drained_node_goes_on_elsewhere(
    on_nodes: Airflow, everything: client.CoreV1Api, second: Machine, machine: Machine, shell: Shell
) -> None:
    waiting = Runs(on_nodes)
    run = _begins_on(second, waiting, everything)
    shell(
        f"kubectl drain {second.name} --ignore-daemonsets --delete-emptydir-data --force"
        " --timeout=90s"
    )
    _goes_on_elsewhere(waiting, everything, run, machine)
    shell(f"kubectl uncordon {second.name}")


def test_a_task_of_a_node_that_died_goes_on_elsewhere(
    on_nodes: Airflow, everything: client.CoreV1Api, second: Machine, machine: Machine, shell: Shell
) -> None:
    waiting = Runs(on_nodes)
    run = _begins_on(second, waiting, everything)
    common.run(["podman", "kill", second.name])
    _goes_on_elsewhere(waiting, everything, run, machine)

    machines.create(second.name, second.release)  # starts it again
    shell(f"kubectl wait --for=condition=Ready node/{second.name} --timeout={120 + SLACK}s")
    # The pod of a failed try is kept for a while, and does not run again.
    wait_for(
        lambda: not nodes_of(everything, WAITING), 120 + SLACK, "its old pod has ended", every=1
    )
    waiting.whole(WAITING, "hello")


def _begins_on(second: Machine, waiting: Runs, everything: client.CoreV1Api) -> str:
    """A run whose first task waits on the second node."""
    waiting.hold(WAITING)
    run = waiting.begin(WAITING, "hello")
    assert nodes_of(everything, WAITING) == {second.name}
    return run


def _goes_on_elsewhere(
    waiting: Runs, everything: client.CoreV1Api, run: str, machine: Machine
) -> None:
    """A task's second try runs on the other node, and is the last one."""
    airflow = waiting.airflow
    wait_for(
        lambda: runs.tries(airflow, WAITING, run).get("first") == ("running", 2),
        240 + SLACK,
        "the second try runs",
        every=1,
    )
    assert machine.name in nodes_of(everything, WAITING)
    waiting.release(WAITING)
    waiting.end(WAITING, run, "hello")
    assert runs.tries(airflow, WAITING, run)["first"] == ("success", 2)


def test_dags_from_git(on_nodes: Airflow, deployed: Callable[..., Deploy], git: GitServer) -> None:
    bundle = {"url": git.http_url("team"), "connection": "git_token", "refresh_seconds": 5}
    run = deployed(dags_source="git", dags_git_bundles={"team": bundle}, dags_local_folder=None)
    assert run.code == 0, run.output
    Runs(on_nodes).whole("e2e_from_git", "git")


def test_a_claim_that_gets_its_volume_with_the_first_pod(
    on_nodes: Airflow,
    deployed: Callable[..., Deploy],
    host: Machine,
    second: Machine,
    shell: Shell,
) -> None:
    for each in (host, second):  # in place of storage that both see
        write_file(each, "/srv/dags/e2e_claimed.py", dag("e2e_claimed", "claim"))
    shell(f"kubectl apply -f - <<'END'\n{CLASS.format(node=second.name)}\nEND")
    claim = {
        "name": "dags",
        "host_path": "/srv/dags",
        "size": "1Gi",
        "storage_class": "e2e-late",
        "access_mode": "ReadWriteOnce",
    }
    given = {"dags_source": "volume_claim", "dags_claim": claim, "dags_local_folder": None}
    run = deployed(**given)
    assert run.code == 0, run.output
    shown = shell(f"kubectl -n {NAMESPACE} get pvc dags -o json")
    assert json.loads(shown)["status"]["phase"] == "Bound"  # by the smoke test's pod
    Runs(on_nodes).whole("e2e_claimed", "claim")
    assert deployed(**given).changed == []
