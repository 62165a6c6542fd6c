"""Airflow becomes a newer version under running tasks, goes back with its data, and is restored."""

from __future__ import annotations

import pytest

from tasks.layout import BACKUPS
from tests.e2e.conftest import Shell
from tests.e2e.data import PSQL, SECRET, connection, counts, decrypted
from tests.e2e.runs import Runs, dag
from tests.e2e.support import Airflow, bring_dag, deploy, log_in
from tests.sandbox.machine import Machine

OLD, NEW = "3.3.1", "3.3.2"
DAG = "e2e_upgrade"
# They belong to the cluster and the host as they are now: tokens, and the authority with its key.
NOT_BACKED_UP = {
    *(f"etc/airflow/kubeconfig{name}" for name in ("", "-renewal", "-triggerer")),
    *(f"etc/airflow/kubeconfig{name}.d/token" for name in ("", "-renewal", "-triggerer")),
    *(f"etc/airflow/tls/{name}.pem" for name in ("ca", "ca-key", "pods-ca", "server")),
}
CHECKED = "Airflow | Let the cluster check the pod template"  # the last one is remembered
RAN = "Smoke test | Run a tiny DAG as a pod (about 10 s)"


@pytest.fixture(scope="module")
def runs(machine: Machine, shell: Shell) -> Runs:
    """Airflow of the old version with some data."""
    run = deploy(settings={"airflow_version": OLD})
    assert run.code == 0, run.output
    bring_dag(DAG, shell, dag(DAG, "one"))
    runs = Runs(log_in(machine))
    runs.airflow.request("POST", "/connections", connection("e2e_before"))
    runs.whole(DAG, "one")
    return runs


def versions(shell: Shell, airflow: Airflow) -> set[str]:
    """The running version, as the web page says and as the services' processes have loaded it."""
    processes = shell(
        "for unit in api-server scheduler dag-processor triggerer; do"
        " sed -n 's|.* /opt/airflow/venvs/\\([0-9.]*\\)-.*|\\1|p'"
        " /proc/$(systemctl show -P MainPID airflow-$unit)/maps | sort -u; done"
    ).splitlines()
    assert len(processes) == 4
    return {airflow.request("GET", "/version")["version"], *processes}


def says_no(shell: Shell, command: str) -> str:
    """The error of a command that must fail."""
    return shell(f"! {command} 2>&1")


def test_upgrade_while_a_task_runs(runs: Runs, shell: Shell) -> None:
    assert versions(shell, runs.airflow) == {OLD}
    runs.hold(DAG)
    under_way = runs.begin(DAG, "one")
    run = deploy()
    assert run.code == 0, run.output
    assert "Upgrade | Stop Airflow and back it up" in run.changed
    assert deploy().changed == []
    assert versions(shell, runs.airflow) == {NEW}
    assert f":{NEW}-" in shell("grep image: /etc/airflow/pod_template.yaml")
    runs.release(DAG)
    runs.end(DAG, under_way, "one")
    tries = {t["task_id"]: t["try_number"] for t in runs.airflow.tasks(DAG, under_way)}
    assert tries == {"first": 1, "second": 1}
    runs.whole(DAG, "one")


def test_older_version_is_refused(runs: Runs, shell: Shell) -> None:
    run = deploy(settings={"airflow_version": OLD})
    assert run.code != 0
    assert f"airflow_version: the database is Airflow {NEW}'s" in run.output
    assert "airflow-rollback" in run.output and "Starting operation" not in run.output
    assert versions(shell, runs.airflow) == {NEW}


def test_rollback_brings_the_version_and_its_data_back(runs: Runs, shell: Shell) -> None:
    runs.airflow.request("POST", "/connections", connection("e2e_after"))
    upgraded = shell(f"ls {BACKUPS}/before-upgrade-*.tar")
    then = shell(
        f"tar -xOf {upgraded} database.dump | pg_restore --data-only --table=connection -f -"
    )
    assert "e2e_before" in then and SECRET not in then
    # The cluster does not accept the token of then any more, which has to stay replaced.
    shell("airflow-rotate cluster-token")
    sums = f"cd / && sha256sum {' '.join(sorted(NOT_BACKED_UP))}"
    ours = shell(sums)
    print(shell("airflow-rollback"))
    assert shell(sums) == ours
    assert versions(shell, runs.airflow) == {OLD}
    assert decrypted(shell, "e2e_before") == SECRET
    assert shell(f"{PSQL} \"select conn_id from connection where conn_id like 'e2e_%'\"") == (
        "e2e_before"
    )
    runs.release(DAG)  # the backup is of the time when it was held
    runs.whole(DAG, "one")
    # With the inventory of that version a deploy has nothing to do.
    run = deploy(settings={"airflow_version": OLD})
    assert run.code == 0, run.output
    assert set(run.changed) <= {RAN, CHECKED}
    assert deploy(settings={"airflow_version": OLD}).changed == []
    assert "no backup from before an upgrade" in says_no(shell, "airflow-rollback")


def test_an_upgrade_without_room_for_its_backup_changes_nothing(runs: Runs, shell: Shell) -> None:
    shell(f"mount -t tmpfs -o size=1m tmpfs {BACKUPS}")
    try:
        run = deploy()
        assert run.code != 0
        assert f"MiB of disk are free in {BACKUPS}" in run.output
        assert "nothing was changed" in run.output
        assert versions(shell, runs.airflow) == {OLD}
    finally:
        shell(f"umount {BACKUPS}")


def test_what_is_no_good_backup_is_refused(runs: Runs, shell: Shell) -> None:
    before = counts(shell)
    file = shell("airflow-backup")
    assert shell(f"stat -c '%U %a' {file} {BACKUPS}") == "root 600\nroot 700"
    held = shell(f"tar -xOf {file} host.tar | tar -t").splitlines()
    assert {"etc/airflow/secrets/fernet-key", "etc/airflow/pod_template.yaml"} <= {*held}
    there = shell("cd / && find etc/airflow/kubeconfig* etc/airflow/tls -type f").splitlines()
    assert {*there} == NOT_BACKED_UP and NOT_BACKED_UP.isdisjoint(held)
    # One byte of the dump, and a file that is cut off.
    shell(
        f"cp {file} /root/flipped.tar;"
        " at=$(grep -abom1 PGDMP /root/flipped.tar | cut -d: -f1);"
        " printf X | dd of=/root/flipped.tar bs=1 seek=$((at + 2000)) conv=notrunc status=none;"
        f" head -c 30000 {file} > /root/short.tar"
    )
    for bad in ("/root/flipped.tar", "/root/short.tar", "/etc/hostname"):
        assert f"{bad} is damaged" in says_no(shell, f"airflow-restore {bad}")
    assert "there is no file /root/none.tar" in says_no(shell, "airflow-restore /root/none.tar")
    assert "name the backup" in says_no(shell, "airflow-restore")
    # One of a newer version, made by hand.
    shell(
        "rm -rf /root/newer && mkdir /root/newer && cd /root/newer && tar -xf " + file + " &&"
        " sed -i 's/^migrated [0-9.]*/migrated 9.9.9/' about &&"
        " sha256sum about database.dump host.tar > SHA256SUMS && tar -cf /root/newer.tar *"
    )
    assert 'deploy with airflow_version = "9.9.9" first' in (
        says_no(shell, "airflow-restore --trust /root/newer.tar")
    )
    assert counts(shell) == before
    assert runs.airflow.health()["scheduler"] == "healthy"


def test_backup_of_an_older_version_is_restored(runs: Runs, shell: Shell) -> None:
    file, before = shell("airflow-backup"), counts(shell)
    assert deploy().code == 0
    runs.airflow.request("DELETE", "/connections/e2e_before")
    runs.whole(DAG, "one")
    print(shell(f"airflow-restore {file}"))
    assert versions(shell, runs.airflow) == {NEW}
    assert counts(shell) == before
    assert decrypted(shell, "e2e_before") == SECRET
    assert set(deploy().changed) <= {RAN}
    runs.whole(DAG, "one")
