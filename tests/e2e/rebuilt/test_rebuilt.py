"""The last commit of version 0.1 deploys a host; this code takes it over.

In between tasks/ got packages, settings got other names, and programs and units became files.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tasks.layout import ROOT
from tests.e2e.conftest import Shell
from tests.e2e.data import SECRET, connection, counts, decrypted
from tests.e2e.runs import Runs, dag, tries
from tests.e2e.support import (
    BETWEEN_FOLDER,
    OLDER_FOLDER,
    as_data,
    bring_dag,
    bring_offline_folders,
    deploy,
    host_tests,
    inventory_with,
    log_in,
)
from tests.sandbox.machine import Machine

BEFORE = "817450a9cfd090826ea418cea47f767efa7be66b"
DAG = "e2e_rebuilt"
# The same settings by the names of then and of now. They reach each kind of a unit and program.
SETTINGS = (
    ("airflow_metrics_port", "metrics_port", 9187),
    ("airflow_log_days", "retention_log_days", 30),
    ("airflow_backups_kept", "retention_backups", 5),
    ("worker_failed_pods_minutes", "retention_failed_pod_minutes", 45),
    ("airflow_pods_port", "execution_api_port", 8082),
    ("airflow_host_names", "web_host_names", ["rebuilt.example.com"]),
    ("airflow_executor", "airflow_executor", "KubernetesExecutor,LocalExecutor"),
    ("airflow_variables", "airflow_variables", {"e2e_rebuilt_kept": "yes"}),
    ("kubernetes_more_namespaces", "kubernetes_extra_namespaces", ["team"]),
    ("kubernetes_network_policy", "kubernetes_network_policy", True),
)
# Kubernetes becomes a newer version as well.
THEN = {then: value for then, _, value in SETTINGS} | {"offline_dir": OLDER_FOLDER}
NOW: dict[str, object] = {now: value for _, now, value in SETTINGS}
NOW |= {"offline_dir": BETWEEN_FOLDER}
# Files of the deploy's own on the host.
OURS = (
    "find /usr/local/bin/airflow* /usr/local/lib/airflow /etc/systemd/system/airflow*"
    " /etc/systemd/system/minikube.service* /etc/systemd/system/nginx.service.d"
    " /etc/systemd/system/prometheus-postgres-exporter.s* -type f | sort"
)


# Prints what may not change.
SECRETS = "sha256sum /etc/airflow/secrets/* /etc/airflow/tls/ca-key.pem"


@pytest.fixture(scope="module")
def before(machine: Machine, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A host that the code of before deployed, with some data."""
    bring_offline_folders(machine)
    folder = tmp_path_factory.mktemp("before")
    known = subprocess.run(["git", "cat-file", "-e", BEFORE], cwd=ROOT, check=False)
    assert known.returncode == 0, f"this clone lacks {BEFORE}: git fetch --unshallow"
    pack = f"git archive {BEFORE} | tar -x -C {shlex.quote(str(folder))}"
    subprocess.run(pack, shell=True, cwd=ROOT, check=True)
    data = shlex.join(f"--data={key}={as_data(value)}" for key, value in THEN.items())
    run = f"uv run --quiet --frozen pyinfra --yes {data} inventories/sandbox.py deploy.py"
    command = f". tests/sandbox/tools.sh; unset VIRTUAL_ENV; {run}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    bring_dag(DAG, shell, dag(DAG, "one"))
    runs = Runs(log_in(machine))
    runs.airflow.request("POST", "/connections", connection("e2e_rebuilt"))
    runs.whole(DAG, "one")
    return runs


def test_a_task_goes_on_and_data_stays(before: Runs, shell: Shell) -> None:
    rows, secrets = counts(shell), shell(SECRETS)
    authority = shell("sha256sum </etc/airflow/tls/ca.pem")
    database = shell("systemctl show -P InvocationID 'postgresql@*' minikube")
    before.hold(DAG)
    under_way = before.begin(DAG, "one")
    run = deploy(settings=NOW)
    assert run.code == 0, run.output
    # Airflow's packages changed, and no other: minikube is not restarted.
    assert "Upgrade | Stop Airflow and back it up" in run.changed
    assert shell("systemctl show -P InvocationID 'postgresql@*' minikube") == database
    before.release(DAG)
    before.end(DAG, under_way, "one")
    assert tries(before.airflow, DAG, under_way) == {
        "first": ("success", 1),
        "second": ("success", 1),
    }
    new = set(shell(SECRETS).splitlines())
    assert {*secrets.splitlines()} <= new
    made = [line for line in new - {*secrets.splitlines()} if "smoke-test-password" not in line]
    assert made == []
    # The authority is limited to the host's names now. Whoever trusts the one of before, a person
    # or a task that runs, trusts the new certificate.
    assert shell("sha256sum </etc/airflow/tls/pods-ca.pem") == authority
    trusted = "openssl verify -CAfile /etc/airflow/tls/pods-ca.pem /etc/airflow/tls/server.pem"
    assert shell(trusted).endswith(": OK")
    assert decrypted(shell, "e2e_rebuilt") == SECRET
    # One more user, the smoke test's own, and one more run of two tasks.
    more = [
        int(now) - int(then) for now, then in zip(counts(shell).split(), rows.split(), strict=True)
    ]
    assert more[:4] == [0, 1, 0, 1]


def test_second_run_changes_nothing(before: Runs) -> None:
    assert deploy("--dry", settings=NOW).planned == []
    run = deploy(settings=NOW)
    assert run.code == 0, run.output
    assert run.changed == []


def source(path: str) -> Path:
    """The file of this checkout that a file of the host comes from."""
    # One template makes the drop-ins of several units, and the exporter has Airflow's sandbox.
    name = re.sub("/airflow-[a-z-]+[.]service[.]d/30-", "/airflow-.service.d/30-", path)
    name = re.sub("/prometheus-.*/10-airflow-", "/airflow-.service.d/10-", name)
    # The sockets' drop-ins have a line each, which tasks/airflow/services.py writes.
    name = re.sub("/(airflow-web6?[.]socket)[.]d/30-host.conf", r"/\1", name)
    file = ROOT / "files" / name.lstrip("/")
    return file if file.exists() else Path(f"{file}.j2")


def test_nothing_of_before_is_left(before: Runs, shell: Shell) -> None:
    there = shell(OURS).splitlines()
    assert len(there) > 20
    assert [path for path in there if not source(path).exists()] == []


def test_the_hosts_own_tests_pass(before: Runs, machine: Machine, tmp_path: Path) -> None:
    done = host_tests(machine, AIRFLOW_INVENTORY=inventory_with(NOW, tmp_path))
    assert done.returncode == 0, done.stdout


def test_an_old_name_of_a_setting_ends_the_run_with_the_new_one(before: Runs) -> None:
    run = deploy(settings={"airflow_metrics_port": 9187})
    assert run.code != 0
    assert "metrics_port" in run.output and "Starting operation" not in run.output


def test_a_task_runs(before: Runs) -> None:
    before.whole(DAG, "one")
