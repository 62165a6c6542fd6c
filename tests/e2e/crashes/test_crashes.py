"""Services that hang or are killed start again; no task is lost, and none runs twice."""

from __future__ import annotations

import json
import re
import time
from functools import partial
from urllib.parse import quote

import pytest
from kubernetes import client

from tests.e2e.conftest import Shell
from tests.e2e.runs import ENDED, healthy, state, tries
from tests.e2e.support import SLACK, Airflow, bring_dag, killed_by_liveness
from tests.support import wait_for

OTHERS = ("airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
UNITS = (*OTHERS[:1], "airflow-api-server", *OTHERS[1:])
# "Unit has failed" and "a restart was scheduled", whose time has come:
# https://www.freedesktop.org/software/systemd/man/sd-messages.html
FAILED, RESTARTED = "d9b373ed55a64feb8242e02dbe79a49c", "5eb03494b6584870a536b337290809b3"
SPARED = "/opt/airflow/dags/e2e_spared"


def process(shell: Shell, unit: str) -> str:
    """The main process of a unit; nothing unless the unit is up."""
    state, pid = shell(
        f"systemctl is-active {unit} || true; systemctl show -P MainPID {unit}"
    ).split()
    return pid if state == "active" else ""


def runs_again(shell: Shell, unit: str, before: str) -> bool:
    """Whether a unit is up with another process."""
    return process(shell, unit) not in ("", before)


def pause(shell: Shell, unit: str, since: float) -> float:
    """Seconds from a unit's end to its new start, since a time.time() when it had not ended."""
    said = shell(
        f"journalctl -q -o json --since=@{since:.6f} UNIT={unit}.service"
        f" MESSAGE_ID={FAILED} MESSAGE_ID={RESTARTED}"
    )
    entries = [json.loads(line) for line in said.splitlines()]
    assert [entry["MESSAGE_ID"] for entry in entries] == [FAILED, RESTARTED], said
    ended, started = (int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6 for entry in entries)
    return started - ended


def hang(shell: Shell, *units: str) -> dict[str, float]:
    """Let units hang; tells after how many seconds each was killed for it."""
    before, began = {unit: process(shell, unit) for unit in units}, time.time()
    shell(f"systemctl kill --signal=SIGSTOP --kill-whom=main {' '.join(units)}")
    wait_for(
        lambda: killed_by_liveness(shell, began).keys() == {*units}, 60 + SLACK, f"{units} end"
    )
    for unit in units:
        # The api-server may take two minutes to be ready.
        wait_for(partial(runs_again, shell, unit, before[unit]), 120 + SLACK, f"{unit} is back")
    return {unit: times[0] - began for unit, times in killed_by_liveness(shell, began).items()}


def test_what_hangs_is_started_again(patient: str, airflow: Airflow, shell: Shell) -> None:
    # A service that started less than a minute ago is not looked at.
    young = "find /run/airflow -name '*.service' -mmin -1"
    wait_for(lambda: healthy(airflow) and shell(young) == "", 90, "all have run for a minute")
    began = time.time()
    # Airflow's threshold is 30 s, the look comes each 10 s and takes 6 s.
    assert max(hang(shell, *OTHERS).values()) < 60
    # It is asked twice, for 20 s each time, with 6 s between.
    (seconds,) = hang(shell, "airflow-api-server").values()
    assert 40 < seconds < 70 + SLACK
    wait_for(lambda: healthy(airflow), 60 + SLACK, "all components are healthy again")
    kills = {unit: len(times) for unit, times in killed_by_liveness(shell, began).items()}
    assert kills == dict.fromkeys(UNITS, 1)


@pytest.mark.usefixtures("patient")
def test_an_upgrade_of_the_nodes_engine_leaves_tasks_alone(shell: Shell) -> None:
    """It restarts containerd, and neither its containers nor kubelet."""
    since = "systemctl show -P ActiveEnterTimestampMonotonic"
    before = shell(f"{since} containerd; {since} kubelet").split()
    shell("DEBIAN_FRONTEND=noninteractive apt-get -qq install --reinstall --yes containerd runc")
    after = shell(f"{since} containerd; {since} kubelet").split()
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_killed_one_after_the_other_while_tasks_run(
    airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    bring_dag("e2e_broken", shell)
    dag = "e2e_many"
    run, pods = airflow.trigger(dag), dict[str, str]()

    def now() -> set[str]:
        found = set()
        for pod in cluster.list_namespaced_pod("airflow", label_selector=f"dag_id={dag}").items:
            labels = pod.metadata.labels
            if pod.metadata.annotations["run_id"] == run:
                found.add(pod.metadata.name)
                pods[pod.metadata.name] = f"{labels['map_index']} try {labels['try_number']}"
        return found

    def look() -> int:
        now()
        return len(pods)

    wait_for(lambda: look() >= 5, 60 + SLACK, "some of the tasks have pods")
    for unit in UNITS:
        before, seen, since = process(shell, unit), look(), time.time()
        shell(f"systemctl kill --signal=SIGKILL --kill-whom=main {unit}")
        wait_for(partial(runs_again, shell, unit, before), 120 + SLACK, f"{unit} is back")
        # Half a second, which the host's tests see in the unit: the journal is late under load.
        assert pause(shell, unit, since) < 5, unit
        if unit == "airflow-scheduler":
            wait_for(partial(lambda seen: look() > seen, seen), 60 + SLACK, "scheduling goes on")
    assert state(airflow, dag, run) == "running"
    wait_for(lambda: look() and state(airflow, dag, run) in ENDED, 180, "it ends")
    states = [(task["state"], task["try_number"]) for task in airflow.tasks(dag, run)]
    assert states == [("success", 1)] * 20
    assert sorted(pods.values()) == sorted({*pods.values()}), "a task had two pods"
    # A task that ran twice in one pod would say so twice.
    folder = f"/var/log/airflow/dag_id={dag}/run_id={run}/task_id=work"
    began = shell(f"cat '{folder}'/map_index=*/attempt=*.log | grep -o 'number [0-9]* in'")
    assert sorted(began.splitlines()) == sorted(f"number {number} in" for number in range(20))
    path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/work/xcomEntries"
    entries = airflow.request("GET", f"{path}?xcom_key=return_value&limit=50")["xcom_entries"]
    assert sorted(entry["map_index"] for entry in entries) == list(range(20))
    # The killed scheduler counts as dead after 30 s; pods of dead ones are looked for each 60 s.
    wait_for(lambda: not now(), 90 + SLACK, "the pods that it left are deleted")


def test_pods_deleted_and_one_out_of_memory(
    airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    """A task whose pod is deleted continues until the pod's time to end, 60 s, is over."""
    dag, to_delete = "e2e_unlucky", ("deleted", "spared")
    shell(f"rm -f {SPARED}")
    run = airflow.trigger(dag)
    wait_for(
        lambda: all("try 1 began" in airflow.log(dag, run, task) for task in to_delete),
        60 + SLACK,
        "the tasks run whose pods are deleted",
    )
    deleted = time.time()
    for task in to_delete:
        labels = f"dag_id={dag},task_id={task}"
        (pod,) = cluster.list_namespaced_pod("airflow", label_selector=labels).items
        cluster.delete_namespaced_pod(pod.metadata.name, "airflow")
    shell(f"touch {SPARED}")
    # Where the kernel kills just the task's process (cgroups v1), its supervisor sends no state if
    # the task may be retried. The scheduler misses its heartbeat after 300 s.
    wait_for(lambda: state(airflow, dag, run) in ENDED, 420 + SLACK, "the run ends")
    assert tries(airflow, dag, run) == {
        "deleted": ("success", 2),
        "spared": ("success", 1),
        "greedy": ("success", 2),
    }
    said = re.findall(r"still there at (\S+)", airflow.log(dag, run, "deleted", 1))
    assert 50 < float(said[-1]) - deleted < 60 + SLACK
    assert "out of memory" in airflow.log(dag, run, "greedy", 1)
