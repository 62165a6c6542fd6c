"""A bare host becomes a working Airflow; a second run changes nothing."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.support import ROOT, deploy, machine_name
from tests.sandbox.machine import Machine


@pytest.fixture(scope="module")
def outputs() -> list[str]:
    """What each run printed, to search for secrets."""
    return []


def test_fresh_deploy(outputs: list[str]) -> None:
    run = deploy()
    outputs.append(run.output)
    assert run.code == 0, run.output
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed


def test_second_run_changes_nothing(outputs: list[str]) -> None:
    run = deploy("-vvv", "--diff")
    outputs.append(run.output)
    assert run.code == 0, run.output
    assert run.json["results"]["totals"]["hosts"] > 0
    assert run.changed == []


def test_dry_run_then_plans_nothing() -> None:
    run = deploy("--dry")
    assert run.code == 0, run.output
    assert run.planned == []


def test_no_secret_is_in_the_output(shell: Shell, outputs: list[str]) -> None:
    secrets = [
        line.partition("=")[2] or line
        for line in shell("tail -qn 1 /etc/airflow/secrets/*").splitlines()
    ]
    secrets.append(shell("awk '/token:/ {print $3}' /etc/airflow/kubeconfig").strip('"}'))
    assert len(secrets) == 5
    for secret in secrets:
        assert len(secret) >= 20
        assert not any(secret in output for output in outputs)


def test_the_hosts_own_tests_pass(machine: Machine) -> None:
    command = ["pytest", "tests/host", f"--hosts=ssh://{machine.name}"]
    done = subprocess.run(
        [*command, f"--ssh-config={machine.ssh_config}"],
        cwd=ROOT,
        env=os.environ | {"AIRFLOW_INVENTORY": "inventories/sandbox.py"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert machine_name() == machine.name


def test_smoke_test_by_hand(shell: Shell) -> None:
    assert "a task ran as a pod" in shell("airflow-smoke-test")
