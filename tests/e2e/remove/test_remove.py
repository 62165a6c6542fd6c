"""The deploy is taken away, with its data and without, and what was backed up comes back."""

from __future__ import annotations

import re

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.data import PSQL, SECRET, connection, counts, decrypted
from tests.e2e.support import HOST_BEFORE, LOOK_AT_HOST, deploy, log_in
from tests.sandbox.machine import Machine

# What Debian's packages leave, or take with them, when they are purged: users and their groups, the
# history of configuration files, the system's locale (by the package locales).
LEFT = (
    "[<>] ((user|group) (postgres|ssl-cert)|file /var/lib/ucf/.*|file /etc/default/locale"
    "|file /etc/locale.conf|file /usr/lib/modules)$"
)


@pytest.fixture(scope="module")
def backup(machine: Machine, shell: Shell) -> str:
    """A backup with a connection, where no removal looks."""
    shell("airflow connections delete e2e_kept >/dev/null 2>&1 || true")
    log_in(machine).request("POST", "/connections", connection("e2e_kept"))
    return shell("cp $(airflow-backup) /root/kept.tar && echo /root/kept.tar")


@pytest.fixture(scope="module")
def rows(shell: Shell, backup: str) -> str:
    """How much is in the database."""
    return counts(shell)


REMOVAL = "tasks.remove.airflow"


def test_removal_that_keeps_data(rows: str, shell: Shell) -> None:
    run = deploy(what=(REMOVAL, "keep_data=True"))
    assert run.code == 0, run.output
    assert shell(
        "ls -d /opt/airflow/* /etc/airflow/* /usr/local/bin/airflow* 2>/dev/null || true"
    ).splitlines() == ["/etc/airflow/secrets", "/opt/airflow/dags", "/opt/airflow/plugins"]
    assert (
        shell(
            "systemctl list-unit-files 'airflow*' minikube.service kubelet.service"
            " --no-legend || true"
        )
        == ""
    )
    assert shell(f"{PSQL} 'select count(*) from connection'") != "0"
    run = deploy()
    assert run.code == 0, run.output
    assert counts(shell) == rows
    assert decrypted(shell, "e2e_kept") == SECRET


def test_removal_leaves_the_host_as_it_was(backup: str, shell: Shell) -> None:
    run = deploy(what=(REMOVAL,))
    assert run.code == 0, run.output
    changed = shell(f"{LOOK_AT_HOST} | diff {HOST_BEFORE} - || true").splitlines()
    assert [line for line in changed if line[0] in "<>" and not re.match(LEFT, line)] == []
    run = deploy(what=(REMOVAL,))
    assert run.code == 0, run.output
    assert run.changed == []


def test_backup_is_restored_on_an_empty_host(
    backup: str, rows: str, machine: Machine, shell: Shell
) -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert shell(f"{PSQL} 'select count(*) from connection'") == "0"
    print(shell(f"airflow-restore {backup}"))
    assert counts(shell) == rows
    assert decrypted(shell, "e2e_kept") == SECRET
    # With the password of then.
    assert log_in(machine).request("GET", "/connections/e2e_kept")["conn_type"] == "http"
    assert deploy().code == 0
    assert deploy().changed == []
