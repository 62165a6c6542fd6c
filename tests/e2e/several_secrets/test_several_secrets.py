"""Secrets that all hosts have are replaced with one command, while tasks run and people look."""

from __future__ import annotations

import pytest

from tests.e2e.servers import GitServer
from tests.e2e.several import Deploying, is_healthy, probe, shell_of, waiting_runs
from tests.e2e.support import Airflow
from tests.sandbox.machine import Machine


def secrets_of(host: Machine) -> dict[str, str]:
    """The checksum of each secret that can be replaced."""
    files = "fernet-key jwt-secret api-secret-key admin-password ../kubeconfig.d/token"
    lines = shell_of(host)(f"cd /etc/airflow/secrets && sha256sum {files}").splitlines()
    found = {name: checksum for checksum, name in map(str.split, lines)}
    return {"cluster-token": found.pop("../kubeconfig.d/token"), **found}


@pytest.mark.parametrize(
    "kind", ["fernet-key", "api-secret-key", "cluster-token", "admin-password", "jwt-secret"]
)
def test_a_secret_of_all_hosts_is_replaced(
    kind: str,
    airflow: Airflow,
    hosts: tuple[Machine, Machine],
    deployed: Deploying,
    git: GitServer,
) -> None:
    before = [secrets_of(host) for host in hosts]
    with waiting_runs(airflow), probe(hosts) as probed:
        run = deployed(what=("tasks.day2.rotate.secret", kind))
        assert run.code == 0, run.output
    after = [secrets_of(host) for host in hosts]
    for old, new in zip(before, after, strict=True):
        assert {name for name in old if old[name] != new[name]} == {kind}
    # Each host has a token of its own.
    for each in (*before, *after):
        del each["cluster-token"]
    assert before[0] == before[1] and after[0] == after[1]
    assert probed.away == []
    left = "ls /etc/airflow/secrets | grep -e next -e jwt-keys || true"
    for host in hosts:
        assert is_healthy(host) and shell_of(host)(left) == ""
        # The database is encrypted with the new fernet key.
        assert git.token in shell_of(host)("airflow connections get git_token -o json")
    assert deployed().changed == []
    said = shell_of(hosts[1])(f"! airflow-rotate {kind} 2>&1")
    assert f"tasks.day2.rotate.secret {kind}" in said
