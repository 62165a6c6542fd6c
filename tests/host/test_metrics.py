"""The endpoint for Prometheus: it is there if it is wanted, and needs nothing of Airflow's."""

from __future__ import annotations

import re

import pytest

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import Host, only_if

UNIT = "prometheus-postgres-exporter.service"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
DROP_IN, SANDBOX = f"{DROP_INS}/airflow.conf", f"{DROP_INS}/10-airflow-sandbox.conf"
SOCKET = "/etc/systemd/system/prometheus-postgres-exporter.socket"
QUERIES = "/usr/local/lib/airflow/metrics.yaml"
Units = dict[str, dict[str, str]]
if_wanted = only_if(lambda facts: expected.has_metrics(facts.settings), "metrics_port is not set")


@pytest.fixture(scope="module")
def figures(host: Host, settings: HostSettings) -> dict[str, float]:
    """The endpoint's figures; of their labels those that are Airflow's."""
    port = settings.metrics.port
    text = host.check_output(f"curl -fsS --noproxy '*' -m 20 http://127.0.0.1:{port}/metrics")
    found = {}
    for name, labels, value in re.findall(r"^(\w+)(?:{(.*)})? (\S+)$", text, re.MULTILINE):
        ours = re.findall(r'(?:component|folder|name|pool|state)="[^"]*"', labels)
        found[f"{name}{{{','.join(ours)}}}" if ours else name] = float(value)
    return found


@if_wanted
def test_runs_and_starts_with_the_host(units: Units, host: Host) -> None:
    found = units[UNIT]
    assert (found["ActiveState"], found["UnitFileState"]) == ("active", "enabled")
    assert found["NeedDaemonReload"] == "no"
    assert found["User"] == found["Group"] == "prometheus"
    lines = host.check_output(f"sha256sum --check /run/airflow/{UNIT}").splitlines()
    assert set(lines) == {f"{path}: OK" for path in (SANDBOX, SOCKET, DROP_IN, QUERIES)}
    assert found["PrivateNetwork"] == "yes"


@if_wanted
def test_its_role_reads_nothing_but_figures(host: Host) -> None:
    ask = "cd / && runuser -u prometheus -- psql -XAtqd airflow -c"
    for columns in ("id from import_error", "state, end_date from dag_run", "pool from slot_pool"):
        assert host.run(f"{ask} 'select {columns} limit 1'").rc == 0, columns
    for columns in ("conf from dag_run", "* from connection", "* from ab_user", "* from job"):
        assert "permission denied" in host.run(f"{ask} 'select {columns}'").stderr, columns
    assert host.run("runuser -u prometheus -- cat /etc/airflow/airflow.cfg").rc != 0


@if_wanted
@pytest.mark.parametrize(
    "relation", ["Requires", "Requisite", "BindsTo", "PartOf", "Wants", "Conflicts", "After"]
)
def test_runs_while_airflow_stands_still(relation: str, units: Units) -> None:
    others = units[UNIT].get(relation, "").split()
    assert [unit for unit in others if unit.startswith("airflow")] == []


@if_wanted
@pytest.mark.parametrize("figure", expected.FIGURES)
def test_figure_is_told(figure: str, figures: dict[str, float]) -> None:
    assert figures[figure] >= 0


@if_wanted
def test_database_is_up_and_components_are_alive(figures: dict[str, float]) -> None:
    assert figures["pg_up"] == 1
    ages = [age for name, age in figures.items() if name.startswith("airflow_heartbeat_age")]
    # The example's alert for a component that is silent.
    assert len(ages) == 3
    assert max(ages) < 60


@only_if(
    lambda facts: not expected.has_metrics(facts.settings), "there is an endpoint for Prometheus"
)
def test_there_is_none_unless_it_is_wanted(host: Host, units: Units) -> None:
    assert host.run(f"ls {SOCKET} {DROP_IN} {SANDBOX} /etc/airflow/metrics.yaml").stdout == ""
    # Another one may run.
    assert "airflow" not in units[UNIT].get("DropInPaths", "")
