"""A reboot of the machine brings all of it back."""

from __future__ import annotations

from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, deploy, machine_name, wait_for
from tests.sandbox import machine as machines


def test_reboot(airflow: Airflow, shell: Shell) -> None:
    before = shell("cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestamp")
    machines.reboot(machine_name())
    assert before != shell(
        "cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestamp"
    )
    wait_for(lambda: shell("systemctl is-active minikube || true") == "active", 180, "minikube")
    wait_for(
        lambda: set(airflow.health().values()) == {"healthy"}, 120, "all components are healthy"
    )
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_rerun_after_the_reboot_changes_nothing() -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert run.changed == []
