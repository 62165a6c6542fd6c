"""Every task is a pod: it is seen while it runs, its log can be read, and it is gone afterwards."""

from __future__ import annotations

import json
import shlex
import urllib.error

import pytest
from kubernetes import client

from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.support import SEEN_SECONDS, Airflow, bring_dag, pods_of
from tests.sandbox.machine import Machine
from tests.support import wait_for

# DAG: how many pods its run takes, each task being one, and a task with words of its log.
EXAMPLES = {
    "example_bash": (5, "end", ["done on node"]),
    # Its greeting, and its memory limit of 700 MiB as the pod's cgroup has it.
    "example_pod_override": (1, "look_around", ["'greeting': 'made to measure'", "734003200"]),
    # The task's own pod, and the one that it starts.
    "example_pod_operator": (2, "say_hello", ["Hello from a pod that a task started"]),
}


@pytest.mark.parametrize("dag", EXAMPLES)
def test_example(dag: str, airflow: Airflow, cluster: client.CoreV1Api) -> None:
    number, task, words = EXAMPLES[dag]
    run, seen = airflow.trigger(dag), set[str]()

    def ended() -> str | None:
        seen.update(pods_of(cluster, dag))
        state = airflow.run_state(dag, run)
        return state if state in ("success", "failed") else None

    state = wait_for(ended, 180, f"{dag} ends", every=0.1)
    assert state == "success", airflow.log(dag, run, task)
    assert len(seen) == number
    wait_for(lambda: not pods_of(cluster, dag), 60, "the pods are deleted")
    # The pod is gone, its log is not.
    log = airflow.log(dag, run, task)
    assert [each for each in words if each not in log] == []


def test_a_new_file_is_seen_within_30_seconds(airflow: Airflow, shell: Shell) -> None:
    def is_known(dag: str) -> bool:
        try:
            return bool(airflow.request("GET", f"/dags/{dag}")["dag_id"])
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return False

    def bring(dag: str) -> None:
        bring_dag(dag, shell, runs.dag(dag, "something"))
        wait_for(lambda: is_known(dag), SEEN_SECONDS, f"{dag} is known")

    bring("e2e_new")
    # The folder was looked at just now: this one waits as long as a file may have to.
    bring("e2e_newer")


def test_log_while_the_task_runs_and_after(
    slow_dag: str, airflow: Airflow, cluster: client.CoreV1Api
) -> None:
    run, task = airflow.trigger(slow_dag), "take_your_time"

    def first_line_while_running() -> bool:
        tasks = airflow.tasks(slow_dag, run)
        if not tasks or tasks[0]["state"] != "running":
            return False
        log = airflow.log(slow_dag, run, task)
        return "the first line" in log and "the last line" not in log

    wait_for(first_line_while_running, 60, "the first line is in the log of the running task")
    wait_for(lambda: airflow.run_state(slow_dag, run) == "success", 60, "the task succeeds")
    wait_for(lambda: not pods_of(cluster, slow_dag), 60, "the pod is deleted")
    log = airflow.log(slow_dag, run, task)
    assert "the first line" in log
    assert "the last line" in log


def test_pods_pass_the_restricted_standard_but_for_the_nodes_folders(shell: Shell) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    namespace = "e2e-restricted"
    shell(
        f"kubectl create namespace {namespace}"
        f" && kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=restricted"
        f" && kubectl -n {namespace} create serviceaccount airflow-worker"
    )
    try:
        said = shell(
            f"sed 's/namespace: airflow$/namespace: {namespace}/' /etc/airflow/pod_template.yaml"
            " | kubectl create --dry-run=server -f - 2>&1 || true"
        )
    finally:
        shell(f"kubectl delete namespace {namespace} --wait=false")
    assert said.endswith(
        'violates PodSecurity "restricted:latest": restricted volume types'
        ' (volumes "dags", "plugins", "logs" use restricted volume type "hostPath")'
    )


KNOCK = """
import pathlib, socket, sys
for port in (8081, 8080, 5432):
    try:
        socket.create_connection((sys.argv[1], port), 5).close()
        print(port, "open")
    except ConnectionRefusedError:
        print(port, "refused")
print("socket", pathlib.Path("/run/postgresql").exists())
"""


def test_the_database_is_out_of_a_pods_reach(machine: Machine, shell: Shell) -> None:
    image = shell("awk '$1 == \"image:\" {print $2}' /etc/airflow/pod_template.yaml")
    pod, kubectl = "e2e-knock", "kubectl -n airflow"
    # As a task that starts a pod has to have it.
    shape = {"serviceAccountName": "airflow-worker", "securityContext": {"runAsUser": 50000}}
    overrides = shlex.quote(json.dumps({"spec": shape}))
    ended = "--for=jsonpath='{.status.phase}'=Succeeded --timeout=60s"
    shell(
        f"{kubectl} run {pod} --quiet --restart=Never --image={image}"
        f" --overrides={overrides} --"
        f" python -c {shlex.quote(KNOCK)} {machine.address}"
    )
    try:
        shell(f"{kubectl} wait {ended} pod/{pod}")
        said = shell(f"{kubectl} logs {pod}")
    finally:
        shell(f"{kubectl} delete pod {pod} --now")
    assert said.splitlines() == ["8081 open", "8080 refused", "5432 refused", "socket False"]
