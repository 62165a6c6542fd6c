"""The pod of a task: what shapes it, where it runs, how long it is kept; and tasks without one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from kubernetes import client

from tasks.worker import authority
from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.support import DAGS, SLACK, Airflow, Deploy, bring_dag, deploy
from tests.support import wait_for

ENDED = ("success", "failed")
GO_ON = "/opt/airflow/dags/e2e_go_on"
STATE_AND_INVOCATION = ("ActiveState", "InvocationID")


def _shaped() -> dict[str, Any]:
    """Everything at once, since a deploy that changes something takes long: two examples and more.

    A quota of one pod, failed pods that go at once, and no proxy, which the sandbox has none of.
    """
    given, starting = example("pods"), example("pod_operator")
    (quota,) = [
        each for each in given["kubernetes_extra_manifests"] if each["kind"] == "ResourceQuota"
    ]
    quota["spec"]["hard"]["pods"] = "1"
    given["worker_pod_override"]["metadata"]["annotations"] = {"e2e.example/cost": "7"}
    given["worker_pod_override"]["spec"]["imagePullSecrets"] = [{"name": "e2e-not-there"}]
    del given["dags_env"]["HTTPS_PROXY"]
    more = {"COLOUR": "green", "NODE_NAMED": "$(HOST_IP)"}
    return {
        **starting,
        **given,
        "dags_env": {**starting["dags_env"], **given["dags_env"], **more},
        "airflow_executor": "KubernetesExecutor,LocalExecutor",
        "retention_failed_pod_minutes": 0,
    }


SHAPED = _shaped()
# Then the opposite of what was chosen before.
OTHER: dict[str, object] = {
    "airflow_executor": "LocalExecutor,KubernetesExecutor",
    "retention_failed_pod_minutes": 1,
    "worker_delete_finished_pods": False,
}


def write_dag(name: str, shell: Shell) -> None:
    """Put a DAG file onto the machine, with the worker image's name in it."""
    image = shell("sed -n 's/^ *image: //p' /etc/airflow/pod_template.yaml | head -n 1")
    bring_dag(name, shell, (DAGS / f"{name}.py").read_text().replace("@IMAGE@", image))


class Pods:
    """The pods of a DAG's run, looked at again and again since most are deleted when they end."""

    def __init__(self, cluster: client.CoreV1Api, dag: str, *namespaces: str) -> None:
        self.cluster, self.selector = cluster, f"dag_id={dag},kubernetes_executor=True"
        self.namespaces = namespaces or ("airflow",)
        self.names: set[str] = set()
        self.by_task: dict[str, Any] = {}
        self.most_elsewhere = 0

    def look(self) -> list[Any]:
        """The pods that there are now."""
        now = [
            pod
            for namespace in self.namespaces
            for pod in self.cluster.list_namespaced_pod(
                namespace, label_selector=self.selector
            ).items
        ]
        self.names |= {pod.metadata.name for pod in now}
        self.by_task |= {pod.metadata.labels["task_id"]: pod for pod in now}
        # Those that a quota counts.
        elsewhere = [
            pod
            for pod in now
            if pod.metadata.namespace != "airflow" and pod.status.phase in ("Pending", "Running")
        ]
        self.most_elsewhere = max(self.most_elsewhere, len(elsewhere))
        return now


def run_to_the_end(airflow: Airflow, dag: str, pods: Pods, seconds: float = 120) -> str:
    """Run a DAG; returns the run's id when it ended, however it did."""
    run = airflow.trigger(dag)

    def ended() -> bool:
        pods.look()
        return airflow.run_state(dag, run) in ENDED

    wait_for(ended, seconds, f"{dag} ends", every=0.1)
    return run


def states(airflow: Airflow, dag: str, run: str) -> dict[str, tuple[str, int]]:
    """State and number of tries of each task."""
    return {
        f"{each['task_id']}{each['map_index'] if each['map_index'] >= 0 else ''}": (
            each["state"],
            each["try_number"],
        )
        for each in airflow.tasks(dag, run)
    }


# With the default settings


def test_a_pod_that_the_cluster_would_refuse_is_not_switched_to(shell: Shell) -> None:
    look = "sha256sum /etc/airflow/pod_template.yaml /etc/airflow/airflow.cfg"
    before = shell(look)
    run = deploy(settings={"worker_pod_override": {"spec": {"nodeSelectr": {"disk": "ssd"}}}})
    assert run.code != 0
    assert "worker_pod_override: the cluster refuses task pods like this" in run.output
    assert 'unknown field "spec.nodeSelectr"' in run.output
    assert "Traceback" not in run.output
    assert shell(look) == before


@pytest.fixture(scope="module")
def failed(airflow: Airflow, cluster: client.CoreV1Api, shell: Shell) -> Pods:
    """A pod that failed under the default settings."""
    write_dag("e2e_pods", shell)
    dag = "e2e_pod_that_fails"
    pods = Pods(cluster, dag)
    run_to_the_end(airflow, dag, pods)
    wait_for(lambda: [pod.status.phase for pod in pods.look()] == ["Failed"], 60, "the pod failed")
    return pods


def test_a_pod_that_failed_is_kept_for_a_while(failed: Pods, shell: Shell) -> None:
    shell("systemctl is-active airflow-cleanup-pods.timer && systemctl start airflow-cleanup-pods")
    assert [pod.status.phase for pod in failed.look()] == ["Failed"]


# With settings that shape the pod


@pytest.fixture(scope="module")
def shaped(failed: Pods, shell: Shell) -> Deploy:
    """The deploy with settings for all that follows."""
    image = shell("sed -n 's/^ *image: //p' /etc/airflow/pod_template.yaml | head -n 1")
    shell(f"ctr -n k8s.io images tag --force {image} localhost/e2e-worker:other")
    shell("kubectl label nodes --all disk=ssd")
    run = deploy(settings=SHAPED)
    assert run.code == 0, run.output
    for name in ("e2e_executors", "e2e_pod_operator"):
        write_dag(name, shell)
    return run


def test_the_settings_are_deployed_once(shaped: Deploy) -> None:
    assert "Airflow | Write pod_template.yaml" in shaped.changed
    assert deploy(settings=SHAPED).changed == []


@pytest.fixture(scope="module")
def seen(shaped: Deploy, airflow: Airflow, cluster: client.CoreV1Api) -> tuple[str, Pods]:
    """A run of tasks that shape their own pods, and those pods."""
    pods = Pods(cluster, "e2e_pods", "airflow", "team-a")
    return run_to_the_end(airflow, "e2e_pods", pods, 180), pods


def test_all_tasks_ended_well_at_once(seen: tuple[str, Pods], airflow: Airflow) -> None:
    run, pods = seen
    names = ("plain", "with_sidecar", "other_image", "elsewhere0", "elsewhere1")
    assert states(airflow, "e2e_pods", run) == dict.fromkeys(names, ("success", 1))
    # That of the sidecar too, which by itself would never end.
    wait_for(lambda: not pods.look(), 60, "the pods are deleted")


def test_worker_env_and_worker_pod_shape_every_pod(
    seen: tuple[str, Pods], airflow: Airflow
) -> None:
    run, pods = seen
    pod = pods.by_task["plain"]
    spec = pod.spec
    assert f"colour green node {pod.status.host_ip}" in airflow.log("e2e_pods", run, "plain")
    assert pod.metadata.labels["team"] == "data"
    assert pod.metadata.annotations["e2e.example/cost"] == "7"
    # Beside the deploy's own.
    assert spec.node_selector == {
        "disk": "ssd",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
    }
    assert "batch" in [toleration.key for toleration in spec.tolerations]
    assert [secret.name for secret in spec.image_pull_secrets] == ["e2e-not-there"]
    # Added to what was there, which is as it was.
    mounts = [mount.mount_path for mount in spec.containers[0].volume_mounts]
    folders = ["/opt/airflow/dags", "/opt/airflow/plugins", "/var/log/airflow"]
    assert mounts == [*folders, authority.IN_POD, "/scratch"]
    assert spec.security_context.run_as_non_root is True
    assert spec.security_context.seccomp_profile.type == "RuntimeDefault"
    assert spec.automount_service_account_token is False
    assert spec.containers[0].security_context.capabilities.drop == ["ALL"]


def test_a_sidecar_runs_beside_its_task_and_ends_with_it(
    seen: tuple[str, Pods], airflow: Airflow
) -> None:
    run, pods = seen
    assert "the sidecar goes on" in airflow.log("e2e_pods", run, "with_sidecar")
    spec = pods.by_task["with_sidecar"].spec
    assert [(each.name, each.restart_policy) for each in spec.init_containers] == [
        ("beat", "Always")
    ]


def test_a_task_may_have_another_image(seen: tuple[str, Pods]) -> None:
    _, pods = seen
    assert pods.by_task["other_image"].spec.containers[0].image == "localhost/e2e-worker:other"


def test_a_task_may_run_in_another_namespace_and_a_full_quota_makes_it_wait(
    seen: tuple[str, Pods], shell: Shell
) -> None:
    _, pods = seen
    pod = pods.by_task["elsewhere"]
    assert pod.metadata.namespace == "team-a"
    assert (pod.spec.priority_class_name, pod.spec.priority) == ("urgent", 1000)
    assert pods.most_elsewhere == 1
    assert "exceeded quota: tasks" in shell(
        "journalctl -u airflow-scheduler --since -10min -o cat --grep 'exceeded quota' -n 1"
    )


def test_objects_and_policy_are_in_the_cluster(seen: tuple[str, Pods], shell: Shell) -> None:
    assert shell("kubectl -n airflow get limitrange tasks -o name") == "limitrange/tasks"
    for namespace in ("airflow", "team-a"):
        policy = json.loads(
            shell(f"kubectl -n {namespace} get networkpolicy airflow-worker -o json")
        )["spec"]
        assert (policy["podSelector"], policy["policyTypes"]) == ({}, ["Egress"])
        dns, allowed = policy["egress"]
        assert {port["port"] for port in dns["ports"]} == {53}
        assert allowed == {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}


def test_a_pod_that_failed_may_be_deleted_at_once(
    shaped: Deploy, failed: Pods, airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    pods = Pods(cluster, "e2e_pod_that_fails")
    (kept,) = failed.names  # by the settings before
    run_to_the_end(airflow, "e2e_pod_that_fails", pods)
    assert len(pods.names - {kept}) == 1
    wait_for(lambda: [pod.metadata.name for pod in pods.look()] == [kept], 60, "it is deleted")
    assert shell("systemctl list-unit-files 'airflow-cleanup-pods*' --no-legend || true") == ""


# Tasks that start pods


def xcom(airflow: Airflow, run: str, task: str) -> Any:
    """The value that a task passed on."""
    path = f"/dags/e2e_pod_operator/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
    return airflow.request("GET", path)["value"]


def test_a_task_starts_pods_and_gets_their_output(
    shaped: Deploy, airflow: Airflow, cluster: client.CoreV1Api
) -> None:
    dag = "e2e_pod_operator"
    run = run_to_the_end(airflow, dag, Pods(cluster, dag), 180)
    assert states(airflow, dag, run) == {"xcom": ("success", 1), "deferred": ("success", 1)}
    for task in ("xcom", "deferred"):
        assert "pod says hello" in airflow.log(dag, run, task)
        assert xcom(airflow, run, task) == {"answer": 42}


def test_the_pod_that_a_task_started_ends_with_the_task(
    shaped: Deploy, airflow: Airflow, cluster: client.CoreV1Api
) -> None:
    dag, tasks = "e2e_pod_operator_killed", ("waiting", "waiting_deferred")

    def started(task: str) -> list[str]:
        pods = cluster.list_namespaced_pod("airflow", label_selector=f"started_by={task}").items
        return [
            pod.status.phase
            for pod in pods
            if pod.status.phase in ("Pending", "Running") and not pod.metadata.deletion_timestamp
        ]

    run = airflow.trigger(dag)
    wait_for(lambda: all(started(task) == ["Running"] for task in tasks), 90, "both pods run")
    # A trigger that has not begun has no pod yet that it could delete.
    wait_for(
        lambda: "Checking pod" in airflow.log(dag, run, "waiting_deferred"),
        60,
        "the triggerer follows one of them",
    )
    for task in tasks:
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}"
        airflow.request("PATCH", path, {"new_state": "failed"})
    wait_for(lambda: not started("waiting"), 90, "its pod is gone")
    wait_for(lambda: not started("waiting_deferred"), 90, "the triggerer deleted its pod")


# Tasks on the host


def where(airflow: Airflow, run: str) -> dict[str, bool]:
    """Which tasks of e2e_executors ran in a pod, by their logs in the web page."""
    logs = {
        task: airflow.log("e2e_executors", run, task)
        for task in ("by_default", "in_a_pod", "on_the_host")
    }
    said = {task: re.search(r"uid (\d+) in a pod: (\w+)", log) for task, log in logs.items()}
    found = {task: words.groups() for task, words in said.items() if words}
    assert len(found) == len(logs), logs
    # The scheduler's tasks run as its own user.
    assert all((uid == "50000") == (pod == "True") for uid, pod in found.values()), found
    return {task: pod == "True" for task, (_, pod) in found.items()}


def test_a_task_may_ask_to_run_on_the_host(
    shaped: Deploy, airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    run = run_to_the_end(airflow, "e2e_executors", Pods(cluster, "e2e_executors"))
    assert where(airflow, run) == {"by_default": True, "in_a_pod": True, "on_the_host": False}
    assert shell("ss -Hltn 'sport = :8793'") == ""


@pytest.fixture(scope="module")
def other(shaped: Deploy) -> Deploy:
    """The deploy with other choices."""
    run = deploy(settings=OTHER)
    assert run.code == 0, run.output
    return run


def test_the_host_may_be_the_default(
    other: Deploy, airflow: Airflow, cluster: client.CoreV1Api
) -> None:
    pods = Pods(cluster, "e2e_executors")
    run = run_to_the_end(airflow, "e2e_executors", pods)
    assert where(airflow, run) == {"by_default": False, "in_a_pod": True, "on_the_host": False}
    # Finished pods are kept now.
    wait_for(lambda: [p.status.phase for p in pods.look()] == ["Succeeded"], 60, "it is kept")


def test_stopping_the_scheduler_waits_for_tasks_on_the_host(
    other: Deploy, airflow: Airflow, shell: Shell
) -> None:
    dag, unit = "e2e_long_on_the_host", "airflow-scheduler"
    run = airflow.trigger(dag)
    wait_for(lambda: "the first line" in airflow.log(dag, run, "take_your_time"), 90, "it runs")
    state, invocation = (f"systemctl show -P {name} {unit}" for name in STATE_AND_INVOCATION)
    before = shell(invocation)
    shell(f"systemctl restart --no-block {unit}")
    wait_for(lambda: shell(state) == "deactivating", 10 + SLACK, "systemd stops the scheduler")
    # After a second it no longer waits for the watchers of the cluster, but only for the task.
    waits = "pgrep -xP $(pgrep -of lib/airflow/stop-scheduler) tail || true"
    wait_for(lambda: shell(waits), 20 + SLACK, "the stop waits for the task")
    assert (shell(state), shell(invocation)) == ("deactivating", before)
    assert states(airflow, dag, run) == {"take_your_time": ("running", 1)}
    shell(f"touch {GO_ON}")
    wait_for(lambda: airflow.run_state(dag, run) in ENDED, 90, "the run ends")
    assert states(airflow, dag, run) == {"take_your_time": ("success", 1)}
    assert "the last line" in airflow.log(dag, run, "take_your_time")
    wait_for(lambda: shell(state) == "active", 90, "the next scheduler runs")
    assert shell(invocation) != before


def test_pods_that_ended_long_ago_are_cleaned_up(other: Deploy, failed: Pods, shell: Shell) -> None:
    assert failed.look()
    shell("systemctl is-active airflow-cleanup-pods.timer")

    def cleaned() -> bool:
        shell("systemctl start airflow-cleanup-pods")
        return not failed.look()

    wait_for(cleaned, 90, "the pods are deleted", every=5)


def test_without_the_settings_the_policy_is_gone(other: Deploy, shell: Shell) -> None:
    gone = shell("kubectl -n airflow get --ignore-not-found networkpolicy airflow-worker -o name")
    assert gone == ""


def test_back_to_the_defaults(other: Deploy, cluster: client.CoreV1Api, shell: Shell) -> None:
    """A pod goes again when its task has ended well."""
    run = deploy()
    assert run.code == 0, run.output
    pods = Pods(cluster, "airflow_smoke_test")
    kept = {pod.metadata.name for pod in pods.look()}
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    wait_for(lambda: {pod.metadata.name for pod in pods.look()} <= kept, 60, "its pod is deleted")
    assert deploy().changed == []
