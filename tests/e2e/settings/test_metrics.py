"""The endpoint for Prometheus tells what is so, and the example's alerts are raised by it."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator

import pytest

from tasks.settings import ROOT
from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, deploy
from tests.sandbox.machine import Machine
from tests.support import wait_for

PORT = 9187
RULES = ROOT / "files/etc/prometheus/airflow.rules.yaml"
BROKEN = "/opt/airflow/dags/e2e_unreadable.py"
FOLDER = "/root/prometheus"
CONFIG = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{FOLDER}/{RULES.name}]
scrape_configs:
  - job_name: airflow
    static_configs: [{{targets: ["127.0.0.1:{PORT}"]}}]
"""


@pytest.fixture(scope="module", autouse=True)
def endpoint(shell: Shell) -> Iterator[None]:
    """The endpoint; afterwards it is taken away again."""
    run = deploy(settings={"airflow_metrics_port": PORT})
    assert run.code == 0, run.output
    assert run.changed and all(name.startswith("Metrics | ") for name in run.changed)
    yield
    run = deploy()
    assert run.changed == ["Metrics | Remove the endpoint for Prometheus"]
    assert shell(f"ss -Hltn sport = :{PORT}") == ""


@pytest.fixture(scope="module")
def prometheus(shell: Shell) -> Iterator[str]:
    """Debian's Prometheus, without its service and its other packages."""
    shell(
        f"mkdir -p {FOLDER} && cd {FOLDER} && apt-get -qq update && apt-get -qq download prometheus"
        f" && dpkg -x prometheus_*.deb . && echo '{CONFIG}' > prometheus.yaml"
        f" && cat > {RULES.name} <<'END'\n{RULES.read_text()}\nEND"
    )
    shell(
        f"systemd-run --quiet --unit=e2e-prometheus {FOLDER}/usr/bin/prometheus"
        f" --config.file={FOLDER}/prometheus.yaml --storage.tsdb.path={FOLDER}/data"
        " --web.listen-address=127.0.0.1:9090"
    )
    yield FOLDER
    shell(f"systemctl stop e2e-prometheus; rm -r {FOLDER}")


def figures(machine: Machine) -> dict[str, float]:
    """What the endpoint tells, from another machine."""
    with urllib.request.urlopen(f"http://{machine.address}:{PORT}/metrics", timeout=10) as answer:
        lines = re.findall(r"^(\w+)(?:{(.*)})? (\S+)$", answer.read().decode(), re.M)
    return {
        " ".join([name, *re.findall(r'(?:component|pool|state)="[^"]*"', labels)]): float(value)
        for name, labels, value in lines
    }


def test_second_run_changes_nothing() -> None:
    assert deploy(settings={"airflow_metrics_port": PORT}).changed == []


def test_figures_are_airflows(machine: Machine, airflow: Airflow) -> None:
    found = figures(machine)
    assert found["pg_up"] == 1
    for component in ("scheduler", "triggerer", "dag_processor"):
        assert 0 <= found[f'airflow_heartbeat_age_seconds component="{component}"'] < 30
    pool = airflow.request("GET", "/pools/default_pool")
    assert found['airflow_pool_slots pool="default_pool"'] == pool["slots"]
    queued = airflow.request("GET", "/dags/~/dagRuns/~/taskInstances?state=queued&limit=1")
    assert found['airflow_task_instances state="queued"'] == queued["total_entries"]
    ended = airflow.request("GET", "/dags/~/dagRuns?state=success&limit=1")["total_entries"]
    assert 0 < found['airflow_dag_runs_ended_last_hour state="success"'] <= ended


def test_alerts_of_the_example_are_raised(machine: Machine, shell: Shell, prometheus: str) -> None:
    checked = shell(f"{prometheus}/usr/bin/promtool check rules {prometheus}/{RULES.name} 2>&1")
    assert "SUCCESS" in checked

    def alerts() -> dict[str, str]:
        said = shell("curl -fsS http://127.0.0.1:9090/api/v1/rules || echo '{}'")
        groups = json.loads(said).get("data", {}).get("groups", [])
        return {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}

    wait_for(lambda: alerts().get("AirflowDagsBroken") == "inactive", 60, "Prometheus runs")
    shell(f"echo 'from airflow.sdk import dag, no_such_thing' > {BROKEN}")
    try:
        wait_for(lambda: alerts()["AirflowDagsBroken"] == "pending", 90, "the alert is raised")
        assert figures(machine)["airflow_import_errors"] > 0
        assert alerts()["AirflowDatabaseDown"] == alerts()["AirflowComponentSilent"] == "inactive"
    finally:
        shell(f"rm {BROKEN}")
