"""What is broken by force comes back by itself; no task is lost, and none runs twice."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from kubernetes import client

from tests.e2e import relay as relay_program
from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, bring_dag, deploy
from tests.sandbox.machine import Machine
from tests.support import wait_for

GO_ON = "/opt/airflow/dags/e2e_go_on"
API_OF_CLUSTER = "/etc/kubernetes/manifests/kube-apiserver.yaml"
ENDED = ("success", "failed")
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")


@pytest.fixture(scope="module", autouse=True)
def dags(shell: Shell) -> None:
    """The DAGs of these tests."""
    bring_dag("e2e_broken", shell)


def state(airflow: Airflow, dag: str, run: str) -> str:
    """State of a run; nothing while the api-server is away."""
    try:
        return airflow.run_state(dag, run)
    except OSError:
        return ""


def tries(airflow: Airflow, dag: str, run: str) -> dict[str, tuple[str, int]]:
    """State and number of the try of each task."""
    return {t["task_id"]: (t["state"], t["try_number"]) for t in airflow.tasks(dag, run)}


def ends_well(airflow: Airflow, dag: str, run: str, seconds: float = 120) -> None:
    """Wait for the run's success."""
    found = wait_for(lambda: (s := state(airflow, dag, run)) in ENDED and s, seconds, "it ends")
    assert found == "success", [airflow.log(dag, run, task) for task in tries(airflow, dag, run)]


def process(shell: Shell, unit: str) -> str:
    """The main process of a unit; nothing unless the unit is up."""
    state, pid = shell(
        f"systemctl is-active {unit} || true; systemctl show -P MainPID {unit}"
    ).split()
    return pid if state == "active" else ""


def runs_anew(shell: Shell, unit: str, before: str) -> bool:
    """Whether a unit is up with another process."""
    return process(shell, unit) not in ("", before)


def healthy(airflow: Airflow) -> bool:
    """Whether all components are."""
    return set(airflow.health().values()) == {"healthy"}


def cluster_answers(shell: Shell) -> bool:
    """Whether the cluster's API is ready."""
    return shell("kubectl get --raw /readyz 2>&1 || true").endswith("ok")


def killed_by_liveness(shell: Shell, since: float) -> list[str]:
    """Units that were found to hang since a time of time.monotonic()."""
    seconds = time.monotonic() - since
    said = shell(f"journalctl -q -u airflow-liveness -o cat --since=-{seconds:.0f}s")
    return [line.split()[0] for line in said.splitlines()]


@pytest.fixture
def patient(airflow: Airflow, shell: Shell) -> Iterator[str]:
    """A run whose task runs until GO_ON is there; afterwards it must end well, on its first try."""
    shell(f"rm -f {GO_ON}")
    run = airflow.trigger("e2e_waiting")
    wait_for(lambda: tries(airflow, "e2e_waiting", run) == {"wait": ("running", 1)}, 60, "it runs")
    yield run
    shell(f"touch {GO_ON}")
    ends_well(airflow, "e2e_waiting", run)
    assert tries(airflow, "e2e_waiting", run) == {"wait": ("success", 1)}


# Liveness


def test_what_hangs_is_started_again_within_a_minute(
    patient: str, airflow: Airflow, shell: Shell
) -> None:
    # What started less than a minute ago is not looked at.
    young = "find /run/airflow -name '*.service' -mmin -1"
    wait_for(lambda: healthy(airflow) and shell(young) == "", 90, "all have run for a minute")
    units = [f"airflow-{name}" for name in SERVICES[1:]]
    before, began = {unit: process(shell, unit) for unit in units}, time.monotonic()
    shell(f"systemctl kill --signal=SIGSTOP --kill-whom=main {' '.join(units)}")
    for unit in units:
        seconds = began + 60 - time.monotonic()
        wait_for(partial(runs_anew, shell, unit, before[unit]), seconds, f"{unit} is started anew")
    assert sorted(killed_by_liveness(shell, began)) == sorted(units)
    wait_for(lambda: healthy(airflow), 60, "all components are healthy again")


# Killed while 20 tasks run


def test_killed_one_after_the_other_while_tasks_run(
    airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    dag = "e2e_many"
    run, pods = airflow.trigger(dag), dict[str, str]()

    def look() -> int:
        for pod in cluster.list_namespaced_pod("airflow", label_selector=f"dag_id={dag}").items:
            labels = pod.metadata.labels
            if pod.metadata.annotations["run_id"] == run:
                pods[pod.metadata.name] = f"{labels['map_index']} try {labels['try_number']}"
        return len(pods)

    wait_for(lambda: look() >= 5, 60, "some of the tasks have pods")
    for service in SERVICES:
        unit = f"airflow-{service}"
        before = process(shell, unit)
        shell(f"systemctl kill --signal=SIGKILL --kill-whom=main {unit}")
        look()
        wait_for(partial(runs_anew, shell, unit, before), 100, f"{unit} is back")
    assert state(airflow, dag, run) == "running"
    wait_for(lambda: look() and state(airflow, dag, run) in ENDED, 180, "it ends")
    states = [(task["state"], task["try_number"]) for task in airflow.tasks(dag, run)]
    assert states == [("success", 1)] * 20
    assert sorted(pods.values()) == sorted({*pods.values()}), "a task had two pods"
    # What ran twice in one pod would say so twice.
    folder = f"/var/log/airflow/dag_id={dag}/run_id={run}/task_id=work"
    began = shell(f"cat '{folder}'/map_index=*/attempt=*.log | grep -o 'number [0-9]* in'")
    assert sorted(began.splitlines()) == sorted(f"number {number} in" for number in range(20))
    path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/work/xcomEntries"
    entries = airflow.request("GET", f"{path}?xcom_key=return_value&limit=50")["xcom_entries"]
    assert sorted(entry["map_index"] for entry in entries) == list(range(20))


# Away for a while


def test_postgres_away_for_half_a_minute(patient: str, airflow: Airflow, shell: Shell) -> None:
    began = time.monotonic()
    shell(
        "systemd-run --quiet --on-active=30 systemctl start postgresql; systemctl stop postgresql"
    )
    ready = "runuser -u postgres -- pg_isready -q && echo ready || true"
    wait_for(lambda: shell(f"cd / && {ready}") == "ready", 60, "PostgreSQL is back")
    back = time.monotonic()

    def triggered() -> str:
        try:
            return airflow.trigger("airflow_smoke_test")
        except OSError:
            return ""

    run = wait_for(triggered, 60, "a run is taken")
    wait_for(lambda: state(airflow, "airflow_smoke_test", run) == "success", 60, "its task ran")
    assert time.monotonic() - back < 60
    wait_for(lambda: healthy(airflow), 60, "all components are healthy")
    assert not killed_by_liveness(shell, began)


def test_the_api_server_away_for_half_a_minute(
    patient: str, airflow: Airflow, shell: Shell
) -> None:
    run = airflow.trigger("airflow_smoke_test")
    shell(
        "systemd-run --quiet --on-active=30 systemctl start airflow-api-server;"
        " systemctl stop airflow-api-server"
    )
    assert airflow.health() == {}
    wait_for(lambda: airflow.health(), 60, "it is back")
    ends_well(airflow, "airflow_smoke_test", run)
    assert {number for _, number in tries(airflow, "airflow_smoke_test", run).values()} == {1}


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
    began, dag = time.monotonic(), "e2e_few"
    run, silent = airflow.trigger(dag), False

    def ended() -> bool:
        nonlocal silent
        silent |= airflow.health().get("scheduler") == "unhealthy"
        return state(airflow, dag, run) in ENDED

    wait_for(ended, 300, "it ends")
    states = [(task["state"], task["try_number"]) for task in airflow.tasks(dag, run)]
    assert states == [("success", 1)] * 8
    assert silent, "the scheduler gave signs of life all the time: the test proves nothing"
    assert not killed_by_liveness(shell, began)


# Forgotten


@pytest.fixture
def aged_watch(shell: Shell) -> Iterator[None]:
    """The scheduler begins anew, and watches the cluster from a state that is too old."""
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
        lambda: "too old resource version: 1 " in shell(said), 60, "the cluster refuses the watch"
    )
    shell(f"touch {GO_ON}")
    ends_well(airflow, "e2e_waiting", patient)

    def pods() -> list[str]:
        found = cluster.list_namespaced_pod("airflow", label_selector="dag_id=e2e_waiting").items
        return [pod.status.phase for pod in found]

    # By the next watch. Who looks for pods that ended unseen comes once a minute.
    wait_for(lambda: pods() == [], 30, "its end is seen, and the pod deleted")


# Tasks that are ended from outside


def test_a_pod_deleted_and_one_out_of_memory(
    airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    dag = "e2e_unlucky"
    run = airflow.trigger(dag)
    wait_for(
        lambda: "try 1 began" in airflow.log(dag, run, "deleted"), 60, "the task that is to be lost"
    )
    (pod,) = cluster.list_namespaced_pod(
        "airflow", label_selector=f"dag_id={dag},task_id=deleted"
    ).items
    # Airflow lets a task go on for as long as the pod is given to end.
    cluster.delete_namespaced_pod(pod.metadata.name, "airflow", grace_period_seconds=1)
    wait_for(lambda: state(airflow, dag, run) in ENDED, 120, "the run ends")
    assert tries(airflow, dag, run) == {"deleted": ("success", 2), "greedy": ("failed", 1)}
    assert "out of memory" in airflow.log(dag, run, "greedy")


def test_no_room_for_logs(airflow: Airflow, shell: Shell) -> None:
    folder, dag = "/var/log/airflow", "e2e_talkative"
    shell(
        f"mount -t tmpfs -o size=8m,uid=airflow-dags,gid=airflow-dags,mode=2770 none {folder}"
        f" && {{ ! cat /dev/zero 2>/dev/null > {folder}/full; }}"
    )
    try:
        run = airflow.trigger(dag)
        wait_for(lambda: tries(airflow, dag, run).get("talk", ("", 0))[1] > 1, 60, "a try failed")
        assert healthy(airflow)
        shell(f"rm {folder}/full")
        ends_well(airflow, dag, run)
    finally:
        shell(f"umount --lazy {folder}")


# The cluster's token


def test_a_token_that_is_no_longer_valid_is_replaced_by_the_deploy(
    patient: str, shell: Shell
) -> None:
    # A token of the same account would be the same again.
    shell(
        "kubectl -n airflow delete --ignore-not-found"
        " serviceaccount/airflow-control-plane secret/airflow-control-plane-token"
    )
    run = deploy()
    assert run.code == 0, run.output
    assert "Kubernetes | Write the kubeconfig of airflow-control-plane" in run.changed
    assert "a task ran as a pod" in shell("airflow-smoke-test")


# The last test: the cluster's controllers may need long to see changes again. A reboot comes next.


def test_both_apis_away(patient: str, airflow: Airflow, shell: Shell) -> None:
    """The cluster's for two minutes, Airflow's for the first of them; then a new kubelet."""
    shell(
        f"systemd-run --quiet --on-active=120 mv /root/kube-apiserver.yaml {API_OF_CLUSTER};"
        " systemd-run --quiet --on-active=60 systemctl start airflow-api-server;"
        f" mv {API_OF_CLUSTER} /root/; systemctl stop airflow-api-server"
    )
    wait_for(lambda: not cluster_answers(shell), 60, "the cluster does not answer")
    wait_for(lambda: airflow.health(), 120, "the api-server is back")
    assert not cluster_answers(shell)
    run = airflow.trigger("airflow_smoke_test")
    wait_for(lambda: cluster_answers(shell), 180, "the cluster is back", every=1)
    shell("systemctl restart kubelet")
    # Who watched the cluster's API looks ever more seldom: it takes Kubernetes up to two minutes.
    ends_well(airflow, "airflow_smoke_test", run, 240)
    assert {number for _, number in tries(airflow, "airflow_smoke_test", run).values()} == {1}
