"""Airflow recovers from each outage by itself; no task is lost, and none runs twice."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from tests.e2e import relay as relay_program
from tests.e2e.conftest import GO_ON, Shell
from tests.e2e.data import PSQL
from tests.e2e.runs import ENDED, ends_well, healthy, recovers, state, tries
from tests.e2e.support import SLACK, Airflow, bring_dag, killed_by_liveness
from tests.sandbox.machine import Machine
from tests.support import wait_for

API_OF_CLUSTER = "/etc/kubernetes/manifests/kube-apiserver.yaml"
SMOKE_TEST = "airflow_smoke_test"


@pytest.fixture(scope="module", autouse=True)
def dags(shell: Shell) -> None:
    """The DAGs of these tests."""
    bring_dag("e2e_broken", shell)


def cluster_answers(shell: Shell) -> bool:
    """Whether the cluster's API is ready."""
    return shell("kubectl get --raw /readyz 2>&1 || true").endswith("ok")


# Away for a while


def test_postgres_away_for_half_a_minute(patient: str, airflow: Airflow, shell: Shell) -> None:
    began = time.time()
    shell(
        "systemd-run --quiet --on-active=30 systemctl start postgresql; systemctl stop postgresql"
    )
    ready = "runuser -u postgres -- pg_isready -q && echo ready || true"
    wait_for(lambda: shell(f"cd / && {ready}") == "ready", 60 + SLACK, "PostgreSQL is back")
    recovers(airflow, SMOKE_TEST, 30 + SLACK)
    assert not killed_by_liveness(shell, began)


# Slow


def relay(unit: str, port: int, to: str, how: str) -> str:
    """Command that runs relay.py as a unit."""
    program = shlex.quote(Path(relay_program.__file__).read_text())
    return f"systemd-run --quiet --unit={unit} python3 -c {program} {port} {to} {how}"


@pytest.fixture
def slow_cluster(machine: Machine, shell: Shell) -> Iterator[None]:
    """The cluster's API takes two seconds for each call of Airflow's."""
    rule = "OUTPUT -p tcp --dport 8443 -m owner --uid-owner airflow -j REDIRECT --to-ports 18443"
    shell(
        f"{relay('e2e-slow', 18443, f'{machine.address} 8443', '2')} && iptables -t nat -I {rule}"
        " && systemctl restart airflow-scheduler"  # with new connections
    )
    yield
    shell(
        f"iptables -t nat -D {rule}; systemctl stop e2e-slow; systemctl restart airflow-scheduler"
    )


def test_a_slow_cluster_is_not_taken_for_a_scheduler_that_hangs(
    slow_cluster: None, airflow: Airflow, shell: Shell
) -> None:
    began, dag = time.time(), "e2e_few"
    run, silent = airflow.trigger(dag), False

    def ended() -> bool:
        nonlocal silent
        silent |= airflow.health().get("scheduler") == "unhealthy"
        return state(airflow, dag, run) in ENDED

    wait_for(ended, 300 + SLACK, "it ends")
    states = [(task["state"], task["try_number"]) for task in airflow.tasks(dag, run)]
    assert states == [("success", 1)] * 8
    assert silent, "the scheduler gave signs of life all the time: the test proves nothing"
    assert not killed_by_liveness(shell, began)


# Forgotten


@pytest.fixture
def aged_watch(shell: Shell) -> Iterator[None]:
    """The scheduler starts again, and watches the cluster from a state that is too old."""
    kubeconfig, drop_in = (
        "/etc/airflow/e2e-kubeconfig",
        "/run/systemd/system/airflow-scheduler.service.d",
    )
    shell(
        # It speaks for root; in plain HTTP, where the other one can read.
        "systemd-run --quiet --unit=e2e-kubectl kubectl --kubeconfig=/root/.kube/config"
        " proxy --port=18002;"
        f" {relay('e2e-aged', 18001, '127.0.0.1 18002', '0 resourceVersion=0 resourceVersion=1')};"
        f" kubectl --kubeconfig={kubeconfig} config set-cluster e2e --server=http://127.0.0.1:18001;"
        f" kubectl --kubeconfig={kubeconfig} config set-context e2e --cluster=e2e;"
        f" kubectl --kubeconfig={kubeconfig} config use-context e2e;"
        f" chmod 644 {kubeconfig}; mkdir -p {drop_in};"
        " printf '[Service]\nEnvironment=AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE=%s\n'"
        f" {kubeconfig} > {drop_in}/e2e.conf;"
        " systemctl daemon-reload; systemctl restart airflow-scheduler"
    )
    yield
    shell(
        f"rm {drop_in}/e2e.conf {kubeconfig}; rmdir {drop_in}; systemctl daemon-reload;"
        " systemctl restart airflow-scheduler; systemctl stop e2e-aged e2e-kubectl"
    )


def test_a_watch_that_the_cluster_knows_no_longer_loses_nothing(
    patient: str, aged_watch: None, airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    """The cluster's API answers 410: resource version too old."""
    since = shell("systemctl show -P ActiveEnterTimestamp airflow-scheduler")
    said = f"journalctl -q -u airflow-scheduler -o cat --since='{since}'"
    wait_for(
        lambda: "too old resource version: 1 " in shell(said),
        60 + SLACK,
        "the cluster refuses the watch",
    )
    shell(f"touch {GO_ON}")
    ends_well(airflow, "e2e_waiting", patient)

    def pods() -> list[str]:
        found = cluster.list_namespaced_pod("airflow", label_selector="dag_id=e2e_waiting").items
        return [pod.status.phase for pod in found]

    # By the next watch. The search for pods that ended unseen comes once a minute.
    wait_for(lambda: pods() == [], 45, "its end is seen, and the pod deleted")


# Full


def test_no_room_for_logs(airflow: Airflow, shell: Shell) -> None:
    folder, dag = "/var/log/airflow", "e2e_talkative"
    shell(
        f"mount -t tmpfs -o size=8m,uid=airflow-dags,gid=airflow-dags,mode=2770 none {folder}"
        f" && {{ ! cat /dev/zero 2>/dev/null > {folder}/full; }}"
    )
    try:
        run = airflow.trigger(dag)
        wait_for(
            lambda: tries(airflow, dag, run).get("talk", ("", 0))[1] > 1, 60 + SLACK, "a try failed"
        )
        assert healthy(airflow)
        shell(f"rm {folder}/full")
        ends_well(airflow, dag, run)
    finally:
        shell(f"umount --lazy {folder}")


# The last test: the cluster's controllers may need long to see changes again.


def test_both_apis_away(
    patient: str, airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    """The cluster's for two minutes, Airflow's for the first of them; then a new kubelet."""
    restarts = "systemctl show --property NRestarts airflow-scheduler"
    before = shell(restarts)
    # A task whose pod is about to begin does not find the Execution API.
    early = airflow.trigger(SMOKE_TEST)

    def placed() -> bool:
        pods = cluster.list_namespaced_pod("airflow", label_selector=f"dag_id={SMOKE_TEST}").items
        return any(
            pod.metadata.annotations["run_id"] == early and pod.spec.node_name for pod in pods
        )

    wait_for(placed, 60 + SLACK, "its pod has a node", every=0.1)
    shell(
        "systemctl stop airflow-api-server;"
        f" systemd-run --quiet --on-active=120 mv /root/kube-apiserver.yaml {API_OF_CLUSTER};"
        " systemd-run --quiet --on-active=60 systemctl start airflow-api-server;"
        f" mv {API_OF_CLUSTER} /root/"
    )
    states = f"select state from task_instance where run_id = '{early}'"
    assert shell(f'{PSQL} "{states}"') == "queued", "the task was quicker than this test"
    wait_for(lambda: not cluster_answers(shell), 60, "the cluster does not answer")
    wait_for(airflow.health, 60 + 45, "the api-server is back")
    assert not cluster_answers(shell)
    run = airflow.trigger(SMOKE_TEST)
    wait_for(lambda: cluster_answers(shell), 180 + SLACK, "the cluster is back", every=1)
    shell("systemctl restart kubelet")
    # Watchers of the cluster's API retry less and less often: it takes Kubernetes up to 2 minutes.
    for each in (early, run):
        ends_well(airflow, SMOKE_TEST, each, 240 + SLACK)
        assert {number for _, number in tries(airflow, SMOKE_TEST, each).values()} == {1}
    assert shell(restarts) == before, "the scheduler goes on"
