"""Settings of every kind at once: the page for others, DAGs from git, metrics, a registry, S3."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.runs import Runs, dag
from tests.e2e.servers import GitServer, RegistryServer, S3Server
from tests.e2e.support import Airflow, deploy, host_tests, inventory_with
from tests.sandbox.machine import Machine
from tests.support import wait_for

BUCKET = "airflow-logs"
DAG = "e2e_team"
METRICS_PORT = 9187


@pytest.fixture(scope="module")
def s3(machine: Machine) -> S3Server:
    """An S3 server with a bucket."""
    server = S3Server(machine).start()
    server.create_bucket(BUCKET)
    return server


@pytest.fixture(scope="module")
def registry(machine: Machine) -> RegistryServer:
    """A registry for the worker image."""
    return RegistryServer(machine).start()


@pytest.fixture(scope="module")
def settings(machine: Machine, s3: S3Server, registry: RegistryServer) -> dict[str, Any]:
    """The settings, and the servers that they need."""
    git = GitServer(machine).start()
    git.create("team")
    git.push("team", {f"dags/{DAG}.py": dag(DAG, "from git")})
    return {
        **example("web_page", {"airflow.example.com": machine.address}),
        "airflow_executor": "KubernetesExecutor,LocalExecutor",
        "dags_git_bundles": {
            "team": {
                "url": git.http_url("team"),
                "folder": "dags",
                "refresh_seconds": 5,
                "connection": "git",
            }
        },
        "logs_store": "s3",
        "logs_s3": {"folder": f"s3://{BUCKET}/tasks", "connection": "logs"},
        "airflow_connections": {
            "git": {"conn_type": "git", "login": git.user, "password": git.token},
            "logs": s3.connection,
        },
        "airflow_pools": {"narrow": {"slots": 2}},
        "metrics_port": METRICS_PORT,
        "minikube_addons": ["storage-provisioner"],  # the offline folder has its image
        "worker_extra_apt_packages": ["jq"],
        "worker_registry": {
            "repository": f"{registry.address}/team/airflow",
            "username": registry.user,
            "password": registry.password,
            "ca_certificate": registry.ca_certificate,
        },
        "worker_pod_override": {"metadata": {"labels": {"team": "e2e"}}},
    }


def test_deployed_at_once(
    settings: dict[str, Any], registry: RegistryServer, airflow: Airflow
) -> None:
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    # More names than the authority's limit allows make another one, which people import.
    vars(airflow).pop("trusting", None)
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed
    assert registry.tags("team/airflow")
    assert deploy(settings=settings).changed == []


def test_a_task_from_git_runs_in_the_image_of_the_registry(
    airflow: Airflow, cluster: client.CoreV1Api, registry: RegistryServer, s3: S3Server
) -> None:
    runs = Runs(airflow)
    runs.hold(DAG)
    run = runs.begin(DAG, "from git")
    (pod,) = cluster.list_namespaced_pod("airflow", label_selector=f"dag_id={DAG},team=e2e").items
    assert pod.spec.containers[0].image.startswith(f"{registry.address}/team/airflow:")
    runs.release(DAG)
    runs.end(DAG, run, "from git")
    # A pod uploads its log after it has said that its task succeeded.
    wait_for(
        lambda: [key for key in s3.objects(BUCKET) if DAG in key and "task_id=second" in key],
        60,
        "the log is in S3",
    )


def test_metrics_are_served(machine: Machine) -> None:
    url = f"http://{machine.address}:{METRICS_PORT}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    (narrow,) = [line for line in lines if line.startswith('airflow_pool_slots{pool="narrow",')]
    assert narrow.endswith("} 2")


def test_the_hosts_own_tests_pass(
    settings: dict[str, Any], machine: Machine, tmp_path: Path
) -> None:
    """With a bundle of git and an addon, which they compare."""
    inventory = inventory_with(settings, tmp_path)
    done = host_tests(machine, AIRFLOW_INVENTORY=inventory)
    assert done.returncode == 0, done.stdout
    assert "the inventory names no addon" not in done.stdout


def test_back_to_the_defaults(shell: Shell) -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    assert deploy().changed == []
