"""A second host whose Airflow uses the cluster of the first one; `tests/run existing` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.servers import GitServer, S3Server
from tests.e2e.support import Airflow, deploy, wait_for
from tests.e2e.test_7_logs import connection
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine

NAMESPACE = "other"
KUBECONFIG = "/root/cluster.yaml"


@pytest.fixture(scope="module")
def other(machine: Machine, shell: Shell) -> Iterator[Machine]:
    """A bare machine that has the first one's kubeconfig."""
    it = machines.create(f"{machine.name}-other", machine.release)
    text = shell("kubectl config view --kubeconfig=/root/.kube/config --minify --flatten --raw")
    machines.run(it, f"umask 077; cat > {KUBECONFIG}", stdin=text.encode())
    yield it
    shell(f"kubectl delete namespace {NAMESPACE} --ignore-not-found")
    machines.remove(it.name)


@pytest.fixture(scope="module")
def settings(machine: Machine, other: Machine, shell: Shell) -> Iterator[dict[str, Any]]:
    """The second host's settings: the node is not it, so DAGs come from git and logs go to S3."""
    s3 = S3Server(machine).start()
    s3.create_bucket("other-logs")
    git = GitServer(machine).start()
    git.create("other")
    git.push("other", {"README": "no DAGs yet\n"})
    yield {
        "kubernetes_provider": "existing",
        "kubernetes_kubeconfig": KUBECONFIG,
        "kubernetes_namespace": NAMESPACE,
        "airflow_address_for_pods": other.address,
        "worker_image": shell("awk '$1 == \"image:\" {print $2}' /etc/airflow/pod_template.yaml"),
        "airflow_dags_source": "git",
        "airflow_git_bundles": {"team": {"url": git.http_url("other"), "connection": "git"}},
        "airflow_logs": "s3",
        "airflow_logs_s3": {"folder": "s3://other-logs/tasks", "connection": "logs"},
        "airflow_connections": {
            "logs": connection(s3),
            "git": {"conn_type": "git", "login": git.user, "password": git.token},
        },
    }
    s3.stop()
    git.stop()


@pytest.fixture(autouse=True)
def _deploy_to_the_other(other: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_SANDBOX", other.name)


def test_deploy_into_the_cluster_of_another_machine(settings: dict[str, Any], shell: Shell) -> None:
    before = shell("kubectl -n airflow get pods,serviceaccounts,roles -o name")
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed
    assert shell("kubectl -n airflow get pods,serviceaccounts,roles -o name") == before
    assert deploy(settings=settings).changed == []


def test_tasks_of_both_run_side_by_side(other: Machine, airflow: Airflow, shell: Shell) -> None:
    password = machines.run(other, "cat /etc/airflow/secrets/admin-password").stdout.strip()
    both = [airflow, Airflow(f"http://{other.address}:8080", "admin", password)]
    runs = [each.trigger("airflow_smoke_test") for each in both]

    def ended() -> bool:
        states = [a.run_state("airflow_smoke_test", run) for a, run in zip(both, runs, strict=True)]
        return states == ["success", "success"]

    wait_for(ended, 90, "both tasks succeed")
    assert "minikube" not in machines.run(other, "ls /usr/local/bin /etc/systemd/system").stdout
