"""A reboot of the machine brings all of it back."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, bring_dag, deploy, machine_name
from tests.sandbox import machine as machines
from tests.support import wait_for

DAG = "e2e_interrupted"


@pytest.fixture
def running(airflow: Airflow, shell: Shell) -> str:
    """A run whose task is running, and would for longer than the machine."""
    bring_dag(DAG, shell)
    run = airflow.trigger(DAG)
    wait_for(lambda: "try 1 began" in airflow.log(DAG, run, "interrupted"), 60, "it runs")
    return run


def test_reboot_while_a_task_runs(running: str, airflow: Airflow, shell: Shell) -> None:
    before = shell("cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestamp")
    machines.reboot(machine_name())
    assert before != shell(
        "cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestamp"
    )
    wait_for(lambda: shell("systemctl is-active minikube || true") == "active", 180, "minikube")
    wait_for(
        lambda: set(airflow.health().values()) == {"healthy"}, 120, "all components are healthy"
    )
    # Its pod ended with the machine; it has one more try.
    wait_for(lambda: airflow.run_state(DAG, running) in ("success", "failed"), 180, "the run ends")
    (task,) = airflow.tasks(DAG, running)
    assert (task["state"], task["try_number"]) == ("success", 2)
    assert "try 2 began" in airflow.log(DAG, running, "interrupted", 2)
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_rerun_after_the_reboot_changes_nothing() -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert run.changed == []
