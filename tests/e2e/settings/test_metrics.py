"""The endpoint for Prometheus tells the truth, and raises the alerts of the example."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.x509 import load_pem_x509_certificates

from tasks import layout
from tasks.layout import ROOT
from tests.e2e.conftest import Shell
from tests.e2e.data import PSQL
from tests.e2e.examples import example
from tests.e2e.support import SLACK, Airflow, bring_dag, deploy
from tests.sandbox.machine import Machine
from tests.support import wait_for

PORT = 9187
RECORDED = "Timers | Record when certificates expire"
TIMER = (
    "Services | Install the units",
    "Services | Make systemd load and enable the units",
    "Timers | Start the timers",
    "Timers | Record the free space of the file systems",
)
RULES = ROOT / "files/etc/prometheus/airflow.rules.yaml"
DAG = "e2e_figures"
BROKEN = ("e2e_unreadable", "e2e_unreadable_too")
JOBS = {
    "scheduler": "SchedulerJob",
    "triggerer": "TriggererJob",
    "dag_processor": "DagProcessorJob",
}
ABOUT = ("component", "pool", "folder")  # labels
# The states of a task that has not ended, once it has one:
# https://airflow.apache.org/docs/apache-airflow/3.3.2/core-concepts/tasks.html#task-instances
TASK_STATES = (
    *("scheduled", "queued", "running", "restarting", "deferred", "awaiting_input"),
    *("up_for_retry", "up_for_reschedule"),
)
FOLDER = "/root/prometheus"
# The endpoint takes a second to say that PostgreSQL does not answer.
CONFIG = f"""
global: {{scrape_interval: 3s, scrape_timeout: 3s, evaluation_interval: 1s}}
rule_files: [{FOLDER}/{RULES.name}]
scrape_configs:
  - job_name: airflow
    static_configs: [{{targets: ["127.0.0.1:{PORT}"]}}]
"""


@pytest.fixture(scope="module", autouse=True)
def endpoint(shell: Shell) -> Iterator[None]:
    """The endpoint; afterwards it is taken away again."""
    run = deploy(settings=example("prometheus"))
    assert run.code == 0, run.output
    assert "Metrics | Install prometheus-postgres-exporter" in run.changed
    # It has a role of its own, which reads some columns.
    others = {name for name in run.changed if not name.startswith(("Metrics | ", "PostgreSQL | "))}
    assert others <= {"Airflow | Give the role airflow-dags its rights", RECORDED, *TIMER}
    assert shell("systemctl is-active airflow-disks.timer") == "active"
    yield
    run = deploy()
    assert "Metrics | Remove the endpoint for Prometheus" in run.changed
    assert shell("systemctl list-unit-files --no-legend 'airflow-disks.*' || true") == ""
    others = {name for name in run.changed if not name.startswith(("Metrics | ", "PostgreSQL | "))}
    assert {each.split(" | ")[-1] for each in others} <= {
        "Install the units",
        "Make systemd load and enable the units",
        "Remove airflow-disks",
        "Start the timers",
    }
    assert shell(f"ss -Hltn sport = :{PORT}") == ""


def test_the_exporter_connects_to_no_other_address(shell: Shell) -> None:
    """Its /probe connects to the address of anybody's request."""
    took = "/run/e2e-connected"
    program = (
        "import socket, pathlib; socket.create_server(('127.0.0.1', 7777)).accept();"
        f" pathlib.Path('{took}').touch()"
    )
    shell(f'systemd-run --quiet --collect --unit=e2e-listener python3 -c "{program}"')
    wait_for(lambda: "7777" in shell("ss -Hltn sport = :7777"), 20 + SLACK, "the listener waits")
    probe = f"curl -s --noproxy '*' -m 30 'http://127.0.0.1:{PORT}/probe?target=127.0.0.1:7777'"
    assert shell(f"{probe} -o /dev/null -w '%{{http_code}}'") != "000"
    shell(f"! test -e {took} && systemctl is-active e2e-listener")
    # The listener would have told.
    shell("curl -s --noproxy '*' -m 5 http://127.0.0.1:7777 || true")
    wait_for(lambda: shell(f"ls {took} || true") == took, 20 + SLACK, "somebody connected")
    shell(f"rm {took}")


@pytest.fixture(scope="module")
def prometheus(shell: Shell) -> Iterator[None]:
    """Debian's Prometheus, without its service and its other packages; its alerts are at once."""
    rules, shortened = re.subn(r"(?m)^( *for:) \w+$", r"\1 1s", RULES.read_text())
    assert shortened
    shell(
        f"mkdir -p {FOLDER} && cd {FOLDER} && apt-get -qq update && apt-get -qq download prometheus"
        f" && dpkg -x prometheus_*.deb . && echo '{CONFIG}' > prometheus.yaml"
        f" && cat > {RULES.name} <<'END'\n{rules}\nEND"
    )
    shell(
        f"systemd-run --quiet --unit=e2e-prometheus {FOLDER}/usr/bin/prometheus"
        f" --config.file={FOLDER}/prometheus.yaml --storage.tsdb.path={FOLDER}/data"
        " --web.listen-address=127.0.0.1:9090"
    )
    yield
    shell(f"systemctl stop e2e-prometheus; rm -r {FOLDER}")


def figures(machine: Machine) -> dict[str, float]:
    """The figures of the endpoint, as another machine reads them."""
    with urllib.request.urlopen(f"http://{machine.address}:{PORT}/metrics", timeout=10) as answer:
        lines = re.findall(r"^(\w+)(?:{(.*)})? (\S+)$", answer.read().decode(), re.M)
    label = re.compile(r'\b(?:component|folder|name|pool|state)="[^"]*"')
    return {" ".join([name, *label.findall(labels)]): float(value) for name, labels, value in lines}


def alerts(shell: Shell) -> dict[str, set[str]]:
    """The alerts of Prometheus, each with the components, pools or folders that it is about."""
    said = shell("curl -fsS http://127.0.0.1:9090/api/v1/rules || echo '{}'")
    rules = [rule for group in json.loads(said)["data"]["groups"] for rule in group["rules"]]
    return {
        rule["name"]: {
            next((alert["labels"][key] for key in ABOUT if key in alert["labels"]), "")
            for alert in rule["alerts"]
            if alert["state"] == "firing"
        }
        for rule in rules
    }


def entries(airflow: Airflow, path: str) -> int:
    """How many there are of what a path of the REST API lists."""
    return int(
        airflow.request("GET", f"{path}{'&' if '?' in path else '?'}limit=1")["total_entries"]
    )


def moment(text: str) -> float:
    """A time of the REST API's, as time.time() has it."""
    return datetime.fromisoformat(text).timestamp()


def standstill(airflow: Airflow, shell: Shell) -> None:
    """Let there be some of everything that is counted, and nothing that changes it."""
    pools = ({"name": "e2e_narrow", "slots": 4}, {"name": "e2e_wide", "slots": 99})
    for pool in pools:
        airflow.request("POST", "/pools", {**pool, "include_deferred": pool["slots"] == 99})
    bring_dag(DAG, shell)
    for name in BROKEN:
        bring_dag(name, shell, "from airflow.sdk import dag, no_such_thing")
    airflow.trigger(DAG)  # which waits until the DAG is known
    wait_for(lambda: entries(airflow, "/importErrors") == len(BROKEN), 90, "they are told")
    shell("systemctl stop airflow-scheduler airflow-dag-processor airflow-triggerer")

    run, *ended = [airflow.trigger(DAG) for _ in range(5)]
    for other, state in zip(ended, ("success", "failed", "failed", "failed"), strict=True):
        airflow.request("PATCH", f"/dags/{DAG}/dagRuns/{quote(other)}", {"state": state})
    shell(
        f"{PSQL} \"update dag_run set end_date = now() - interval '61 min'"
        f" where run_id = '{ended[-1]}';"
        f" update dag_run set state = 'running', start_date = now() where run_id = '{run}';"
        " update task_instance set start_date = now(), state = split_part(task_id, '-', 1),"
        " queued_dttm = now() - case task_id when 'queued-0' then interval '11 min'"
        " when 'queued-1' then interval '5 min' else interval '1 hour' end"
        f" where run_id = '{run}'\""
    )
    for _ in range(2):
        airflow.trigger(DAG)


def asked(airflow: Airflow) -> tuple[dict[str, float], dict[str, float]]:
    """The figures as the REST API has them: counts, and since when something lasts."""
    runs, tasks = "/dags/~/dagRuns", "/dags/~/dagRuns/~/taskInstances"
    counts: dict[str, float] = {"airflow_import_errors": entries(airflow, "/importErrors")}
    for state in TASK_STATES:
        name = f'airflow_task_instances state="{state}"'
        counts[name] = entries(airflow, f"{tasks}?state={state}")
    for state in ("queued", "running"):
        counts[f'airflow_dag_runs state="{state}"'] = entries(airflow, f"{runs}?state={state}")
    hour_ago = quote((datetime.now(UTC) - timedelta(hours=1)).isoformat())
    for state in ("success", "failed"):
        name = f'airflow_dag_runs_ended_last_hour state="{state}"'
        counts[name] = entries(airflow, f"{runs}?state={state}&end_date_gte={hour_ago}")
    for pool in airflow.request("GET", "/pools")["pools"]:
        label = f'pool="{pool["name"]}"'
        counts[f"airflow_pool_slots {label}"] = pool["slots"]
        counts[f"airflow_pool_used {label}"] = pool["occupied_slots"]

    queued: list[dict[str, Any]] = airflow.request("GET", f"{tasks}?state=queued")["task_instances"]
    since = {"airflow_oldest_queued_task_seconds": min(moment(t["queued_when"]) for t in queued)}
    for component, job in JOBS.items():
        path = f"/jobs?job_type={job}&order_by=-latest_heartbeat&limit=1"
        (last,) = airflow.request("GET", path)["jobs"]
        name = f'airflow_heartbeat_age_seconds component="{component}"'
        since[name] = moment(last["latest_heartbeat"])
    return counts, since


def certificate_ends(shell: Shell) -> dict[str, float]:
    """When the first certificate of Kubernetes and that of nginx ends, by their figures."""
    inside = "sed -n 's/^ *client-certificate-data: *//p' /etc/kubernetes/*.conf"
    files = (
        "cat /var/lib/minikube/certs/*.crt /var/lib/minikube/certs/etcd/*.crt"
        " /var/lib/kubelet/pki/kubelet-client-current.pem"
    )
    kubernetes = f"{inside} | while read -r each; do echo $each | base64 -d; done; {files}"
    return {
        f'airflow_certificate_remaining_seconds name="{name}"': min(
            x509.not_valid_after_utc.timestamp()
            for x509 in load_pem_x509_certificates(shell(command).encode())
        )
        for name, command in {"kubernetes": kubernetes, "web": f"cat {layout.CERTIFICATE}"}.items()
    }


def room(folder: str, shell: Shell) -> dict[str, int]:
    """What a file system has, by the figures of the endpoint."""
    said = shell(f"stat -f -c '%a %S %b %d %c' {folder}")
    free, block, size, free_files, files = map(int, said.split())
    figures = {"free_bytes": free * block, "size_bytes": size * block}
    return {**figures, "free_files": free_files, "files": files}


@pytest.fixture
def small_disk(shell: Shell) -> Iterator[str]:
    """A file system for the backups, of which less than a fifth is free."""
    shell(
        f"mount -t tmpfs -o size=20m,nr_inodes=100 e2e-small {layout.BACKUPS}"
        f" && head -c 17M /dev/zero > {layout.BACKUPS}/fill"
    )
    yield layout.BACKUPS
    shell(f"umount {layout.BACKUPS}")


def test_second_run_changes_nothing() -> None:
    assert deploy(settings={"metrics_port": PORT}).changed == []


def test_prometheus_accepts_the_alerts_as_they_are(prometheus: None, shell: Shell) -> None:
    """The ones that are raised below come at once, which these do not."""
    rules, file = RULES.read_text(), f"{FOLDER}/as-they-are.rules.yaml"
    said = shell(
        f"cat > {file} <<'END'\n{rules}\nEND\n{FOLDER}/usr/bin/promtool check rules {file} 2>&1"
    )
    assert f"SUCCESS: {rules.count('- alert: ')} rules found" in said


def test_figures_and_alerts_while_airflow_stands_still(
    machine: Machine, airflow: Airflow, shell: Shell, prometheus: None, small_disk: str
) -> None:
    up = "curl -fsS http://127.0.0.1:9090/api/v1/query?query=pg_up"
    wait_for(lambda: '"1"]' in shell(f"{up} || true"), 60, "Prometheus asks the endpoint")
    names = set(re.findall(r"(?m)^ *- alert: (\w+)$", RULES.read_text()))
    full = {"AirflowDiskFills": {small_disk}}
    wait_for(
        lambda: alerts(shell) == {name: set[str]() for name in names} | full,
        120,  # of which the timer needs one minute
        "only the small disk is told",
    )

    standstill(airflow, shell)
    counts, since = asked(airflow)
    shell("systemctl stop airflow.target")
    wait_for(lambda: airflow.health() == {}, 60, "Airflow is stopped")
    before = time.time()
    found = figures(machine)
    after = time.time()
    assert found["pg_up"] == 1
    # Other tests may have left pools that nobody uses.
    of_others = [name for name in counts if "pool=" in name and 'pool="e2e_' not in name]
    assert [name for name, value in counts.items() if not value and name not in of_others] == []
    told = {name: value for name, value in found.items() if name.startswith("airflow_")}
    disks = {name: told.pop(name) for name in [*told] if name.startswith("airflow_disk_")}
    assert {name: disks[name] for name in disks if f'"{small_disk}"' in name} == {
        f'airflow_disk_{figure} folder="{small_disk}"': value
        for figure, value in room(small_disk, shell).items()
    }
    assert {'airflow_disk_free_bytes folder="/"', 'airflow_disk_files folder="/"'} <= disks.keys()
    ends = certificate_ends(shell)
    assert {name: told[name] for name in told.keys() - since.keys() - ends.keys()} == counts
    for name, moment_ in since.items():
        assert before - 0.1 <= moment_ + told[name] <= after + 0.1, name
    for name, end in ends.items():
        assert before - 0.1 <= end - told[name] <= after + 0.1, name

    of_web = "where name = 'web'"
    not_after = shell(f'{PSQL} "select not_after from deploy.certificate {of_web}"')
    sooner = "update deploy.certificate set not_after = now() + interval '13 days'"
    shell(f'{PSQL} "{sooner} {of_web}"')
    raised = {
        "AirflowComponentSilent": set(JOBS),
        "AirflowTasksWait": {""},
        "AirflowRunsFail": {""},
        "AirflowDagsBroken": {""},
        "AirflowPoolFull": {"e2e_narrow"},
        "AirflowCertificateEnds": {""},
        "AirflowDatabaseDown": set[str](),
        **full,
    }
    assert raised.keys() == names
    # A component is silent when its last sign of life is a minute old.
    wait_for(lambda: alerts(shell) == raised, 120, f"the alerts are raised: {raised}")
    shell("systemctl stop postgresql")
    wait_for(lambda: alerts(shell)["AirflowDatabaseDown"] == {""}, 60, "the last one is raised")
    assert figures(machine)["pg_up"] == 0

    shell("systemctl start postgresql")
    wait_for(lambda: figures(machine)["pg_up"] == 1, 60, "the endpoint reaches PostgreSQL again")
    shell(f"{PSQL} \"update deploy.certificate set not_after = '{not_after}' {of_web}\"")
    files = " ".join(f"/opt/airflow/dags/{name}.py" for name in (DAG, *BROKEN))
    shell(f"rm {files}; {PSQL} \"delete from dag_run where dag_id = '{DAG}'\"")
    shell("systemctl start airflow.target")
    wait_for(lambda: {*airflow.health().values()} == {"healthy"}, 180, "Airflow is healthy again")
