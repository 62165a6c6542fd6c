"""The removal as a list of operations, without a host; what it does is seen on a real one only."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from tests.unit import fake


@pytest.fixture(scope="module", params=["defaults", "existing cluster", "another driver"])
def given(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings that take different ways."""
    return fake.VARIANTS[request.param]


@pytest.mark.parametrize("keep_data", [False, True])
def test_commands_and_questions_are_shell(given: dict[str, Any], keep_data: bool) -> None:
    plan = fake.removal(given, keep_data)
    commands = [command for each in plan.operations for command in each.commands]
    assert len(commands) > 3
    for text in {*commands, *plan.facts}:
        done = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True)
        assert done.returncode == 0, f"{done.stderr}{text}"


def test_data_is_kept_when_it_is_asked_for() -> None:
    said = " ".join(c for each in fake.removal({}, True).operations for c in each.commands)
    for kept in ("dropdb", "userdel", "apt-get", "/etc/airflow/secrets", "/opt/airflow/dags"):
        assert kept not in said
    for folder in ("/opt/airflow", "/etc/airflow", "/var/log/airflow", "/var/backups/airflow"):
        assert folder not in said.split()
    whole = " ".join(c for each in fake.removal({}, False).operations for c in each.commands)
    assert "rm -rf /etc/nginx/sites-available/airflow /etc/airflow/tls" in said
    assert "dropdb" in whole and "/var/backups/airflow" in whole.split()


def test_the_people_who_own_a_cluster_keep_it() -> None:
    plan = fake.removal(fake.VARIANTS["existing cluster"], False)
    said = " ".join(command for each in plan.operations for command in each.commands)
    assert "minikube delete" not in said and "iptables" not in said
    (namespaces,) = plan.named("Delete Airflow's objects").commands
    assert re.search("kubectl .* delete --ignore-not-found namespace airflow >", namespaces)
    kept = fake.removal(fake.VARIANTS["existing cluster"], True)
    manifest, others = kept.named("Delete Airflow's objects").commands
    assert "kind: Namespace" not in manifest and "kind: Role" in manifest
    assert "secret/airflow-registry" in others and " namespace " not in others
