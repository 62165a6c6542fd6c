"""What is broken by force comes back by itself, or with the next deploy, and loses nothing."""

from __future__ import annotations

import time

import pytest
from kubernetes import client

from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, deploy, pods_of
from tests.support import wait_for

# Waits if a service has just started; whether it has to is the machine's speed.
WAIT = "Services | Wait until Airflow is healthy"


def test_scheduler_killed_while_a_task_runs(
    slow_dag: str, airflow: Airflow, cluster: client.CoreV1Api, shell: Shell
) -> None:
    run, seen = airflow.trigger(slow_dag), set[str]()
    wait_for(
        lambda: [task for task in airflow.tasks(slow_dag, run) if task["state"] == "running"],
        60,
        "the task runs",
    )
    shell("systemctl kill --signal=SIGKILL --kill-whom=main airflow-scheduler")
    killed = time.monotonic()
    wait_for(lambda: shell("systemctl is-active airflow-scheduler || true") == "active", 15, "back")
    # Scheduling again: another run's task gets its pod while the first still runs.
    airflow.trigger("airflow_smoke_test")
    wait_for(lambda: pods_of(cluster, "airflow_smoke_test"), 15, "a new task gets a pod")
    assert time.monotonic() - killed < 15

    def ended() -> bool:
        seen.update(pods_of(cluster, slow_dag))
        return airflow.run_state(slow_dag, run) in ("success", "failed")

    wait_for(ended, 90, "the run ends")
    (task,) = airflow.tasks(slow_dag, run)
    assert (task["state"], task["try_number"]) == ("success", 1)
    assert len(seen) == 1, "the task ran once, in one pod"
    # The new scheduler adopts the finished pod when the old one counts as dead.
    wait_for(lambda: not pods_of(cluster, slow_dag), 150, "the pod is deleted")


# What somebody edits on the host or in the cluster, and the operations that put it back.
EDITS = {
    "echo '# by hand' >> /etc/airflow/airflow.cfg": ["Airflow | Write airflow.cfg"],
    # It started with the edited file, the others with the right one.
    "systemctl restart airflow-triggerer": ["Services | Run airflow-triggerer"],
    "echo '# by hand' >> /etc/airflow/pod_template.yaml": ["Airflow | Write pod_template.yaml"],
    "echo '# by hand' >> /etc/systemd/system/airflow-api-server.service": [
        "Services | Write airflow-api-server.service",
        "Services | Make systemd load and enable the units",
    ],
    "echo '# by hand' >> $(ls /etc/postgresql/*/main/pg_hba.conf)": [
        "PostgreSQL | Write pg_hba.conf",
        "PostgreSQL | Make PostgreSQL load its configuration",
    ],
    "kubectl -n airflow delete rolebinding --all": [
        "Kubernetes | Apply Airflow's objects in the cluster"
    ],
    "rm /opt/airflow/dags/example_bash.py": ["DAGs | Copy the DAGs"],
    "systemctl disable --quiet airflow-backup.timer": ["Timers | Run the timers"],
}


def test_edits_by_hand_are_put_back_and_just_what_reads_them_restarts(shell: Shell) -> None:
    for edit in EDITS:
        shell(edit)
    wanted = {name for names in EDITS.values() for name in names}
    run = deploy()
    assert run.code == 0, run.output
    # Without its rights in the cluster a scheduler ends, and is started again.
    assert set(run.changed) - {WAIT, "Services | Run airflow-scheduler"} == wanted
    assert deploy().changed == []


def test_what_timers_start_does_its_work_in_its_sandbox(shell: Shell) -> None:
    shell("systemctl start 'airflow-cleanup-*.service' airflow-liveness")
    count = "ls /var/backups/airflow/airflow-*.tar 2>/dev/null | wc -l"
    before = int(shell(count))
    shell("systemctl start airflow-backup")
    assert int(shell(count)) == before + 1


def test_stopped_service_is_started_again(shell: Shell) -> None:
    shell("systemctl stop airflow-dag-processor")
    run = deploy()
    assert set(run.changed) - {WAIT} == {"Services | Run airflow-dag-processor"}


def test_target_stops_and_starts_all_of_airflow(shell: Shell, airflow: Airflow) -> None:
    units = "airflow-api-server airflow-scheduler airflow-dag-processor airflow-triggerer"

    def states() -> set[str]:
        return set(shell(f"systemctl is-active {units} || true").splitlines())

    shell("systemctl stop airflow.target")
    # By itself the scheduler would wait 20 s for its watcher of the cluster.
    wait_for(
        lambda: shell("systemctl is-active airflow-scheduler || true") == "inactive", 15, "end"
    )
    wait_for(lambda: states() == {"inactive"}, 60, "all units are stopped")
    shell("systemctl start airflow.target")
    wait_for(lambda: states() == {"active"}, 60, "all units are active")
    wait_for(
        lambda: set(airflow.health().values()) == {"healthy"}, 60, "all components are healthy"
    )


def test_stopped_cluster_comes_back_with_the_deploy(shell: Shell) -> None:
    shell("systemctl stop minikube")
    assert shell("crictl pods --state ready --quiet") == ""
    run = deploy()
    assert run.code == 0, run.output
    assert "minikube | Begin to start minikube" in run.changed
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    wait_for(lambda: deploy().changed == [], 120, "a further run changes nothing", every=5)


# What is broken, and what the smoke test must say of it.
BROKEN_LINKS = {
    "scheduler": ("systemctl stop airflow-scheduler", ["scheduler"]),
    "image": (
        "sed -i 's|image: localhost/.*|image: localhost/airflow-worker:not-there|'"
        " /etc/airflow/pod_template.yaml",
        ["failed at image:", "localhost/airflow-worker:not-there", "the pod's events:"],
    ),
    "pod to Execution API": (
        "sed -i 's|https://$(HOST_IP):|https://127.0.0.1:|' /etc/airflow/pod_template.yaml",
        ["failed at pod to Execution API:", "the pod's last lines:", "the pod's events:"],
    ),
}


@pytest.mark.parametrize("link", BROKEN_LINKS)
def test_smoke_test_names_the_broken_link(link: str, shell: Shell) -> None:
    break_it, said = BROKEN_LINKS[link]
    shell(break_it)
    output = shell("airflow-smoke-test 2>&1 && echo PASSED || true")
    shell("kubectl -n airflow delete pods --all --wait=false")
    assert "PASSED" not in output
    for words in said:
        assert words in output
    run = deploy()
    assert run.code == 0, run.output
    assert "a task ran as a pod" in shell("airflow-smoke-test")
