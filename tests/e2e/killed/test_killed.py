"""A deploy that is killed heals with the next one, wherever it was killed."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, dag
from tests.e2e.support import Airflow, deploy, killed_at

# One a module, in the order of the deploy: what it is doing as it is killed.
KILLED_AT = (
    "System | Create /opt/airflow/plugins",
    "minikube | Install kubectl",
    "PostgreSQL | Make PostgreSQL load its configuration",
    "Airflow | Install Airflow",
    "DAGs | ",
    "Worker image | Build the worker image",
    "Kubernetes | Apply Airflow's objects in the cluster",
    "Worker image | Load the worker image into the cluster",
    "Upgrade | Stop Airflow and back it up",
    "Airflow | Write airflow.cfg",
    "Airflow | Migrate the database's schema",
    "Objects | Make connections, variables and pools",
    "Services | Run airflow-api-server",
    "Services | Run airflow-scheduler",
    "Timers | Run the timers",
    "Upgrade | Keep the backup of before",
    "Smoke test | Run a tiny DAG as a pod",
)


def test_killed_in_each_module(airflow: Airflow, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "e2e_killed.py").write_text(dag("e2e_killed", "one"))
    settings = {
        "postgres_config": {"log_min_duration_statement": "5s"},
        "airflow_extra_requirements": ["cowsay==6.1"],
        "airflow_dags_from": str(tmp_path),
        "airflow_variables": {"e2e_killed": "go"},
        "airflow_config": {"core": {"hide_sensitive_var_conn_fields": "True"}},
        "kubernetes_pod_operator": True,
        "worker_failed_pods_minutes": 30,
    }
    shell("rmdir /opt/airflow/plugins && rm /usr/local/bin/kubectl")
    assert [each for each in KILLED_AT if not killed_at(each, settings)] == []
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    assert deploy(settings=settings).changed == []
    Runs(airflow).whole("e2e_killed", "one")
    run = deploy()
    assert run.code == 0, run.output
    assert deploy().changed == []
