"""A second host whose Airflow uses the cluster of the first one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.runs import dag
from tests.e2e.servers import GitServer, S3Server
from tests.e2e.support import Airflow, deploy, log_in
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

NAMESPACE = "other"
KUBECONFIG = "/root/cluster.yaml"
DAG = "e2e_elsewhere"


@pytest.fixture(scope="module")
def other(machine: Machine, shell: Shell) -> Iterator[Machine]:
    """A bare machine that has the first one's kubeconfig."""
    it = machines.create(f"{machine.name}-other", machine.release)
    text = shell("kubectl config view --kubeconfig=/root/.kube/config --minify --flatten --raw")
    machines.run(it, f"umask 077; cat > {KUBECONFIG}", stdin=text.encode())
    yield it
    machines.remove(it.name)


@pytest.fixture(scope="module")
def settings(machine: Machine, other: Machine, shell: Shell) -> dict[str, Any]:
    """The second host's settings: the node is not it, so DAGs come from git and logs go to S3."""
    s3, git = S3Server(machine).start(), GitServer(machine).start()
    s3.create_bucket("other-logs")
    git.create("elsewhere")
    git.push("elsewhere", {f"{DAG}.py": dag(DAG, "hello")})
    return {
        "kubernetes_provider": "existing",
        "kubernetes_kubeconfig": KUBECONFIG,
        "kubernetes_namespace": NAMESPACE,
        "airflow_address_for_pods": other.address,
        "worker_image": shell("awk '$1 == \"image:\" {print $2}' /etc/airflow/pod_template.yaml"),
        "airflow_dags_source": "git",
        "airflow_git_bundles": {"team": {"url": git.http_url("elsewhere"), "connection": "git"}},
        "airflow_logs": "s3",
        "airflow_logs_s3": {"folder": "s3://other-logs/tasks", "connection": "logs"},
        "airflow_connections": {
            "logs": s3.connection,
            "git": {"conn_type": "git", "login": git.user, "password": git.token},
        },
    }


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
    elsewhere = log_in(other)
    runs = [(airflow, "airflow_smoke_test"), (elsewhere, DAG)]
    triggered = [(each, name, each.trigger(name)) for each, name in runs]

    def ended() -> bool:
        return all(each.run_state(name, run) == "success" for each, name, run in triggered)

    wait_for(ended, 120, "both runs succeed")
    *_, (_, _, run_id) = triggered
    # A pod uploads its log after it has said that its task succeeded.
    wait_for(
        lambda: "second says hello" in elsewhere.log(DAG, run_id, "second"), 60, "the log is there"
    )
    assert "minikube" not in machines.run(other, "ls /usr/local/bin /etc/systemd/system").stdout
