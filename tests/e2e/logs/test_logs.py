"""Task logs, wherever they are kept: while a task runs, when it ended, when its pod was killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from secrets import token_hex
from typing import Any

import pytest
from kubernetes import client

from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.runs import ends_well
from tests.e2e.servers import RestServer, S3Server
from tests.e2e.support import Airflow, bring_dag, deploy
from tests.sandbox.machine import Machine
from tests.support import wait_for

DAG = "e2e_logs"
LINES = 100_000
CLAIM = {"name": "logs", "host_path": "/tmp/hostpath-provisioner/airflow/logs", "size": "1Gi"}
STORY = "example_rest_to_s3"
BUCKET = "airflow-logs"


@pytest.fixture(scope="module")
def s3(machine: Machine) -> Iterator[S3Server]:
    """An S3 server with a bucket."""
    server = S3Server(machine).start()
    server.create_bucket(BUCKET)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def rest(machine: Machine) -> Iterator[RestServer]:
    """A REST service."""
    server = RestServer(machine).start()
    yield server
    server.stop()


def s3_settings(s3: S3Server, rest: RestServer) -> dict[str, object]:
    """Logs in S3, and what the story of REST and S3 needs."""
    host, _, port = rest.address.partition(":")
    login = {"S3_ACCESS_KEY": s3.access_key, "S3_SECRET_KEY": s3.secret_key}
    names = {"s3://my-bucket": f"s3://{BUCKET}", "https://s3.example.com": s3.endpoint}
    given = example("s3_logs", {**names, "eu-central-1": s3.region}, environ=login)
    names = {"my-bucket": BUCKET, "https://s3.example.com": s3.endpoint, "api.example.com": host}
    secrets = {**login, "REST_TOKEN": rest.token, "WAREHOUSE_PASSWORD": token_hex(16)}
    objects = example("objects", names, environ=secrets)
    # The service of the sandbox has no TLS.
    service = {"conn_type": "http", "port": int(port), "schema": "measurements"}
    objects["airflow_connections"]["example_rest"] |= service
    pools = {"example_rest": {"slots": 1}, "example_other": {"slots": 2}}
    return {
        **given,
        **objects,
        "airflow_connections": {**given["airflow_connections"], **objects["airflow_connections"]},
        "airflow_pools": {**objects["airflow_pools"], **pools},
    }


@pytest.fixture(scope="module", params=["host", "volume_claim", "s3"])
def store(request: pytest.FixtureRequest, shell: Shell, s3: S3Server, rest: RestServer) -> str:
    """Airflow with its logs in this store."""
    name = str(request.param)
    settings: dict[str, dict[str, object]] = {
        "host": {},
        "volume_claim": {"logs_store": "volume_claim", "logs_claim": CLAIM},
        "s3": s3_settings(s3, rest),
    }
    bring_dag("e2e_logs", shell)
    run = deploy(settings=settings[name])
    assert run.code == 0, run.output
    if settings[name]:
        assert deploy(settings=settings[name]).changed == []
    return name


def pods_of_run(cluster: client.CoreV1Api, run: str, *tasks: str) -> list[str]:
    """Names of the run's pods that exist now, of these tasks or of all."""
    pods = cluster.list_namespaced_pod("airflow", label_selector=f"dag_id={DAG}").items
    labels = [(pod.metadata.name, pod.metadata.annotations) for pod in pods]
    return [
        name
        for name, its in labels
        if its["run_id"] == run and (not tasks or its["task_id"] in tasks)
    ]


def test_log_of_a_running_an_ended_and_a_killed_task(
    store: str, airflow: Airflow, cluster: client.CoreV1Api, s3: S3Server
) -> None:
    run = airflow.trigger(DAG)
    wait_for(lambda: "try 1 began" in airflow.log(DAG, run, "killed"), 60, "the task runs", every=1)
    (pod,) = pods_of_run(cluster, run, "killed")
    cluster.delete_namespaced_pod(pod, "airflow", grace_period_seconds=0)
    wait_for(lambda: airflow.run_state(DAG, run) == "success", 120, "both tasks succeed")
    tries = {task["task_id"]: task["try_number"] for task in airflow.tasks(DAG, run)}
    assert tries == {"many": 1, "killed": 2}
    wait_for(lambda: not pods_of_run(cluster, run), 60, "the pods are deleted")
    # No line is lost, not even of the try that was killed.
    assert "try 1 began" in airflow.log(DAG, run, "killed", 1)
    assert "try 2 ended" in airflow.log(DAG, run, "killed", 2)
    wait_for(lambda: f"line {LINES - 1}" in airflow.log(DAG, run, "many"), 60, "the log is whole")
    said = [line for line in airflow.log(DAG, run, "many").splitlines() if "line " in line]
    assert [line.split()[-1] for line in said] == [str(number) for number in range(LINES)]
    assert any(DAG in key for key in s3.objects(BUCKET)) == (store == "s3")


# As long as Airflow allows: as names of folders they would be too long for a file system. The id of
# a DAG is shorter, since FAB's table of rights has no room for more.
LONG = "e2e_long_".ljust(242, "x")
LONG_TASK = LONG.ljust(250, "x")
LONG_DAG = f"""
from airflow.sdk import DAG, task

with DAG("{LONG}", schedule=None):

    @task(task_id="{LONG_TASK}")
    def speak():
        print("a log of long ids")

    speak()
"""


def test_log_of_ids_with_250_characters(store: str, airflow: Airflow, shell: Shell) -> None:
    bring_dag("e2e_long", shell, LONG_DAG)
    run = airflow.trigger(LONG)
    ends_well(airflow, LONG, run)
    wait_for(
        lambda: "a log of long ids" in airflow.log(LONG, run, LONG_TASK), 60, "the log is there"
    )


@pytest.fixture(scope="module")
def in_s3(s3: S3Server, rest: RestServer) -> dict[str, object]:
    """Settings with logs in S3, which are deployed."""
    settings = s3_settings(s3, rest)
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    return settings


def test_rest_to_s3(
    in_s3: dict[str, object], s3: S3Server, rest: RestServer, airflow: Airflow, shell: Shell
) -> None:
    rows = [{"station": "north", "celsius": 4.5}, {"station": "süd", "celsius": -1}]
    rest.publish(list(rows))
    run = airflow.trigger(STORY)
    wait_for(lambda: airflow.run_state(STORY, run) in ("success", "failed"), 120, "the story ends")
    assert airflow.run_state(STORY, run) == "success", airflow.log(STORY, run, "fetch")
    (key,) = [key for key in s3.objects(BUCKET) if key.startswith("measurements/")]
    assert json.loads(s3.read(BUCKET, key)) == rows
    for secret in (s3.secret_key, rest.token):
        assert secret not in shell(
            "kubectl get pods,events -A -o yaml;"
            " cat $(find /etc/airflow -maxdepth 1 -type f -name '*.*')"
        )


def test_what_was_changed_by_hand_is_put_back(
    in_s3: dict[str, object], s3: S3Server, rest: RestServer, airflow: Airflow
) -> None:
    host, _, port = rest.address.partition(":")
    wanted: dict[str, dict[str, object]] = {
        "/connections/example_rest": {
            "conn_type": "http",
            "host": host,
            "port": int(port),
            "schema": "measurements",
        },
        "/variables/example_bucket": {"value": BUCKET},
        "/pools/example_rest": {"slots": 1, "description": "", "include_deferred": False},
        "/pools/warehouse": {"slots": 4, "description": "Queries", "include_deferred": False},
    }
    by_hand: dict[str, dict[str, object]] = {
        "/connections/example_rest": {
            "connection_id": "example_rest",
            "conn_type": "ftp",
            "host": "elsewhere.example",
            "port": 1,
            "schema": "other",
        },
        "/variables/example_bucket": {"key": "example_bucket", "value": "other"},
        "/pools/example_rest": {
            "pool": "example_rest",
            "slots": 7,
            "description": "other",
            "include_deferred": True,
        },
    }

    def there() -> dict[str, dict[str, object]]:
        answers = {path: airflow.request("GET", path) for path in wanted}
        return {path: {key: answers[path][key] for key in wanted[path]} for path in wanted}

    assert there() == wanted
    for path, body in by_hand.items():
        airflow.request("PATCH", path, body)
    airflow.request("DELETE", "/pools/example_other")
    run = deploy(settings=in_s3)
    assert run.changed == [
        "Objects | Make connections, variables and pools as the inventory has them"
    ]
    assert there() == wanted
    assert airflow.request("GET", "/pools/example_other")["slots"] == 2
    for secret in (s3.secret_key, rest.token):
        assert secret not in run.output


def test_s3_that_says_no_is_named_and_loses_no_log(
    in_s3: dict[str, object], s3: S3Server, airflow: Airflow
) -> None:
    connections: Any = in_s3["airflow_connections"]
    wrong = {**connections, "s3_logs": replace(s3, secret_key="wrong").connection}
    run = deploy(settings={**in_s3, "airflow_connections": wrong})
    assert run.code != 0
    assert "failed at log:" in run.output and "SignatureDoesNotMatch" in run.output, run.output
    smoke = airflow.request("GET", "/dags/airflow_smoke_test/dagRuns?order_by=-start_date")
    last = smoke["dag_runs"][0]["dag_run_id"]
    assert airflow.run_state("airflow_smoke_test", last) == "success"
    assert deploy(settings=in_s3).code == 0
    # The log that could not be uploaded was kept.
    assert "Hello from a pod" in airflow.log("airflow_smoke_test", last, "greet")
