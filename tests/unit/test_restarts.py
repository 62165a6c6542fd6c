"""Which units a changed setting restarts: those that read a file which it changes."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.airflow import services
from tests.unit import fake

ALL = {"api-server", "scheduler", "dag-processor", "triggerer"}
PUBLIC = {"web_host": "0.0.0.0"}
S3 = fake.VARIANTS["s3 logs"]
# The settings before and after a change, and the services that restart.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    # systemd itself holds the port.
    "port": ({}, {"web_port": 8090}, set()),
    # All four read airflow.cfg.
    "where logs are": ({}, fake.VARIANTS["claims"], ALL),
    "tasks on the host": ({}, {"airflow_executor": "LocalExecutor,KubernetesExecutor"}, ALL),
    "page with TLS": ({}, PUBLIC, ALL),
    "names": (PUBLIC, {**PUBLIC, "web_host_names": ["another.example"]}, set()),
    "logins": (PUBLIC, {**PUBLIC, "web_logins_per_minute": 5}, set()),
    "certificate": (PUBLIC, {**PUBLIC, "web_certificate": fake.PAIR}, set()),
    "login": ({}, {"web_login_config": "AUTH_TYPE = 2\n"}, ALL),
    "another login": (
        {"web_login_config": "AUTH_TYPE = 2\n"},
        {"web_login_config": "AUTH_TYPE = 4\n"},
        {"api-server"},
    ),
    "option": ({}, {"airflow_config": {"core": {"parallelism": "8"}}}, ALL),
    "packages": ({}, {"airflow_extra_requirements": ["cowsay"]}, ALL),
    "git": ({}, fake.VARIANTS["git"], ALL),
    "logs": ({}, S3, ALL),
    "variables of DAGs": (
        {},
        {"dags_env": {"COLOUR": "green"}},
        {"dag-processor", "triggerer"},
    ),
    # The template of pods is read for each pod.
    "resources": ({}, {"worker_resources": {}}, set()),
    "image": ({}, {"worker_extra_apt_packages": ["jq"]}, set()),
    # These are in the database, in the cluster, or belong to other programs.
    "pools": ({}, {"airflow_pools": {"narrow": {"slots": 2}}}, set()),
    # The triggerer follows the pods of deferred tasks.
    "rights": ({}, {"kubernetes_pod_operator": True}, {"triggerer"}),
    "PostgreSQL": ({}, {"postgres_config": {"work_mem": "8MB"}}, set()),
    "retention": ({}, {"retention_log_days": 1, "retention_backups": 1}, set()),
    "how long pods are kept": ({}, {"retention_failed_pod_minutes": 5}, set()),
    "retention off": ({}, {"retention_log_days": 0, "retention_history_days": 0}, set()),
    "images": ({}, {"retention_worker_images": 5}, set()),
    # A service that reads and writes logs keeps the connection to their store.
    "S3's connection": (
        {**S3, "airflow_connections": {"s3_logs": {"conn_type": "aws", "password": "one"}}},
        {**S3, "airflow_connections": {"s3_logs": {"conn_type": "aws", "password": "two"}}},
        {"api-server", "triggerer"},
    ),
    "any other connection": (
        {"airflow_connections": {"api": {"conn_type": "http", "password": "one"}}},
        {"airflow_connections": {"api": {"conn_type": "http", "password": "two"}}},
        set(),
    ),
    "DAGs in the image": (
        {"dags_source": "image", "dags_local_folder": "tests/e2e/dags"},
        {"dags_source": "image", "dags_local_folder": "tests/bench/dags"},
        {"dag-processor"},
    ),
}


def read(given: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The files that each service reads as it starts, by their paths."""
    settings = fake.settings(given)
    plan = fake.plan(settings)
    return {
        service.name: plan.contents(services.inputs(service, settings))
        for service in services.SERVICES
    }


@pytest.mark.parametrize("change", CHANGES)
def test_only_services_that_read_a_change_restart(change: str) -> None:
    before, after, expected = CHANGES[change]
    then, now = read(before), read(after)
    assert {name for name in then if then[name] != now[name]} == expected
