"""Debian and then PostgreSQL are upgraded in place, by the commands of inventories/YEARS.md."""

from __future__ import annotations

import pytest

from tasks.layout import ROOT
from tests.e2e.conftest import Shell
from tests.e2e.data import PSQL, SECRET, connection, counts, decrypted
from tests.e2e.runs import Runs, dag
from tests.e2e.support import bring_dag, deploy, host_tests, log_in, machine_name
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for
from tests.unit.markdown import commands

YEARS = ROOT / "inventories/YEARS.md"
PREPARE, UPGRADE, TIDY_UP = commands(YEARS, "## Another Debian")
NEWER_POSTGRES, OLDER_POSTGRES, NO_OLDER_POSTGRES = commands(YEARS, "## Another PostgreSQL")
# A person who agrees, and keeps the host's own files. The machine is rebooted from outside.
PERSON = """
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get() { command apt-get -q --yes -o Dpkg::Options::=--force-confold "$@"; }
reboot() { :; }
"""
DAG, KEPT = "e2e_debian", "e2e_debian"
RAN = "Smoke test | Run a tiny DAG as a pod (about 10 s)"
STOPPED = "Upgrade | Stop Airflow and back it up"
EARLIER = "PostgreSQL 15 is of an earlier Debian"


class Before:
    """A host on Debian 12, with what people would miss."""

    def __init__(self, runs: Runs, rows: str) -> None:
        self.runs, self.rows = runs, rows
        self.backup = ""

    def is_all_there(self, shell: Shell) -> None:
        """No row is lost, the key fits, and a task runs; a deploy has nothing to do."""
        assert counts(shell) == self.rows
        assert decrypted(shell, KEPT) == SECRET
        assert "a task ran as a pod" in shell("airflow-smoke-test")
        again = deploy()
        assert again.code == 0 and again.changed == [], again.output


@pytest.fixture(scope="module")
def before(machine: Machine, shell: Shell) -> Before:
    """A connection with a password, and two runs."""
    assert shell(". /etc/os-release; echo $VERSION_CODENAME") == "bookworm"
    bring_dag(DAG, shell, dag(DAG, "then"))
    runs = Runs(log_in(machine))
    runs.airflow.request("POST", "/connections", connection(KEPT))
    for _ in range(2):
        runs.whole(DAG, "then")
    return Before(runs, counts(shell))


def follow(shell: Shell, block: str) -> str:
    """Do what a block of inventories/YEARS.md says; returns what it printed last."""
    return (shell(PERSON + block).splitlines() or [""])[-1]


def version(shell: Shell) -> str:
    """The version of the PostgreSQL that has the data."""
    cluster = "PGCLUSTER=$(sed -n 's/^PGCLUSTER=//p' /etc/airflow/host.env)"
    return shell(f"export {cluster}; {PSQL} 'show server_version'").partition(".")[0]


def test_airflow_is_stopped_and_backed_up(before: Before, shell: Shell) -> None:
    before.backup = follow(shell, PREPARE)
    assert shell(f"test -s {before.backup} && echo is there") == "is there"
    are = "systemctl is-active airflow.target airflow-scheduler || true"
    wait_for(lambda: shell(are).split() == ["inactive"] * 2, 60, "Airflow is stopped")


def test_debian_is_upgraded_in_place(before: Before, shell: Shell) -> None:
    configuration = shell("sha256sum /etc/containerd/config.toml")
    machines.become(machine_name(), "trixie")
    assert UPGRADE.endswith("\nreboot\n")
    print(follow(shell, UPGRADE))
    machines.reboot(machine_name())
    assert shell(". /etc/os-release; echo $VERSION_CODENAME") == "trixie"
    assert shell("sha256sum /etc/containerd/config.toml") == configuration
    # The data is in PostgreSQL 15, which Debian 13 does not have.
    assert shell("pg_lsclusters --no-header").split()[:4] == ["15", "main", "5432", "online"]
    wait_for(lambda: shell("systemctl is-active minikube || true") == "active", 300, "minikube")
    assert shell("systemctl is-active airflow.target || true") == "inactive"


def test_airflow_goes_on_with_the_old_python_until_the_deploy(before: Before, shell: Shell) -> None:
    """As on a host whose admin has not read how to do it."""
    shell("systemctl start airflow.target")
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_without_its_python_airflow_says_so(before: Before, shell: Shell) -> None:
    follow(shell, TIDY_UP)
    assert "no python3.11" in shell("ls /usr/bin/python3.11 2>&1 || echo no python3.11")
    shell("systemctl restart airflow-triggerer || true")
    wait_for(
        lambda: shell("systemctl show -P ExecMainStatus airflow-triggerer") == "203", 30, "it ends"
    )
    assert "deploy again" in shell("! airflow version 2>&1")


def test_the_next_deploy_makes_what_depends_on_debian(
    before: Before, machine: Machine, shell: Shell
) -> None:
    image = "sed -n 's/^ *image: //p' /etc/airflow/pod_template.yaml"
    then = shell(image)
    run = deploy()
    assert run.code == 0, run.output
    assert {STOPPED, RAN} <= {*run.changed}
    assert EARLIER in run.output
    assert shell("readlink -f /opt/airflow/venv/bin/python") == "/usr/bin/python3.13"
    assert shell(image) != then
    assert shell("systemctl is-enabled airflow.target") == "enabled"
    before.is_all_there(shell)
    before.runs.whole(DAG, "then")
    before.rows = counts(shell)
    done = host_tests(machine, AIRFLOW_INVENTORY="inventories/sandbox.py")
    assert done.returncode == 0, done.stdout


def test_a_rollback_to_the_old_python_is_refused(before: Before, shell: Shell) -> None:
    said = shell("! airflow-rollback 2>&1")
    assert "or its Python" in said and "nothing was changed" in said
    before.is_all_there(shell)


def test_postgresql_is_upgraded_with_the_data(
    before: Before, machine: Machine, shell: Shell
) -> None:
    assert version(shell) == "15"
    print(follow(shell, NEWER_POSTGRES))
    run = deploy()
    assert run.code == 0, run.output
    assert EARLIER not in run.output
    assert version(shell) == "17"
    before.is_all_there(shell)
    done = host_tests(machine, AIRFLOW_INVENTORY="inventories/sandbox.py")
    assert done.returncode == 0, done.stdout


def test_it_can_go_back_to_the_data_of_before(before: Before, shell: Shell) -> None:
    shell("airflow variables set e2e_since yes >/dev/null")
    follow(shell, OLDER_POSTGRES)
    run = deploy()
    assert run.code == 0, run.output
    assert version(shell) == "15"
    assert "e2e_since" not in shell("airflow variables list -o plain")
    before.is_all_there(shell)
    # And forward again; now no package makes an empty cluster.
    follow(shell, NEWER_POSTGRES)
    run = deploy()
    assert run.code == 0, run.output
    assert version(shell) == "17"


def test_the_old_version_can_go(before: Before, shell: Shell) -> None:
    follow(shell, NO_OLDER_POSTGRES)
    assert shell("pg_lsclusters --no-header").split()[:2] == ["17", "main"]
    before.is_all_there(shell)


def test_the_backup_of_the_old_debian_is_restored(before: Before, shell: Shell) -> None:
    print(shell(f"airflow-restore {before.backup}"))
    assert decrypted(shell, KEPT) == SECRET
    run = deploy()
    assert run.code == 0, run.output
    assert deploy().changed == []
    before.runs.whole(DAG, "then")


def test_all_of_it_survives_a_reboot(before: Before, shell: Shell) -> None:
    machines.reboot(machine_name())
    wait_for(lambda: shell("systemctl is-active minikube || true") == "active", 300, "minikube")
    wait_for(
        lambda: set(before.runs.airflow.health().values()) == {"healthy"}, 180, "all is healthy"
    )
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    assert deploy().changed == []
