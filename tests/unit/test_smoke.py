"""When a deploy runs the smoke test again: after a change of what a task needs on its way."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit import fake

# What the test's state is made of, each with what would be wrong without it.
STATE = {
    "/etc/airflow/airflow.cfg": "other options",
    "/etc/airflow/pod_template.yaml": "another image, shape or environment of the pods",
    "/etc/airflow/kubeconfig": "another cluster, or another token for it",
    "/etc/airflow/secrets/objects.json": "another connection, as that of the logs' store",
    "/etc/nginx/sites-available/airflow": "another way of pods to the Execution API",
    "/etc/airflow/tls/ca.pem": "another authority, whom pods are to trust",
    "/etc/systemd/system/airflow-.service.d/10-sandbox.conf": "another sandbox of the services",
    **{
        f"/etc/systemd/system/airflow-{name}.service.d/30-host.conf": "another version or setting"
        for name in ("api-server", "scheduler", "dag-processor", "triggerer")
    },
    "/etc/systemd/system/airflow-api-server.service": "another way to run a service",
    "/etc/systemd/system/airflow-scheduler.service": "another way to run a service",
    "/etc/systemd/system/airflow-dag-processor.service": "another way to run a service",
    "/etc/systemd/system/airflow-triggerer.service": "another way to run a service",
}
PUBLIC = fake.VARIANTS["page with TLS"]
# Settings before and after a change, and whether it has to be proved.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "option": ({}, {"airflow_config": {"core": {"parallelism": "8"}}}, True),
    "Debian packages of the image": ({}, {"worker_extra_apt_packages": ["jq"]}, True),
    "Python packages": ({}, {"airflow_extra_requirements": ["cowsay"]}, True),
    "environment of pods": ({}, {"worker_env": {"COLOUR": "green"}}, True),
    "shape of pods": (
        {},
        {"worker_pod_override": {"spec": {"nodeSelector": {"disk": "ssd"}}}},
        True,
    ),
    "DAGs of the image": (
        {"dags_source": "image", "dags_local_folder": "tests/e2e/dags"},
        {"dags_source": "image", "dags_local_folder": "tests/bench/dags"},
        True,
    ),
    "context": (fake.EXISTING, {**fake.EXISTING, "kubernetes_context": "other"}, True),
    "connections": ({}, {"airflow_connections": {"api": {"conn_type": "http"}}}, True),
    "proxy": (PUBLIC, {**PUBLIC, "web_logins_per_minute": 5}, True),
    "executor": ({}, {"airflow_executor": "KubernetesExecutor,LocalExecutor"}, True),
    "retention": ({}, {"retention_log_days": 1, "retention_backups": 1}, False),
    "metrics": ({}, fake.VARIANTS["metrics"], False),
    "PostgreSQL": ({}, {"postgres_config": {"work_mem": "8MB"}}, False),
}


def files_of_state(plan: fake.Plan) -> list[str]:
    """The files whose content the test's state is made of."""
    run, remember = plan.named("Run a tiny DAG as a pod").commands
    assert run == "/usr/local/bin/airflow-smoke-test"
    (state, files) = re.findall(r"^(cat (.*) 2>/dev/null \| sha256sum) > ", remember)[0]
    # The deploy compares just this.
    assert any(f'test "$({state})" = "$(cat ' in fact for fact in plan.facts)
    return str(files).split()


def test_the_state_is_all_that_a_task_depends_on(plan: fake.Plan) -> None:
    assert sorted(files_of_state(plan)) == sorted(STATE)


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_tasks_way_is_proved_again(change: str) -> None:
    before, after, proved = CHANGES[change]
    contents = [
        plan.contents(files_of_state(plan))
        for plan in (fake.plan(fake.settings(before)), fake.plan(fake.settings(after)))
    ]
    assert (contents[0] != contents[1]) is proved
