"""Settings and packages come to one host after the other, while tasks run and people look."""

from __future__ import annotations

import time

from tests.e2e.runs import Runs
from tests.e2e.several import (
    DAG,
    OWNER,
    SERVICES,
    Deploying,
    beating,
    config,
    is_healthy,
    probe,
    shell_of,
    started,
    waiting_runs,
)
from tests.e2e.several_changes.versions import NEW, OLD
from tests.e2e.support import SLACK, Airflow, write_file
from tests.sandbox.machine import Machine
from tests.support import wait_for

AWAY = 30  # seconds without the database
# It migrates tables of a package. Airflow takes this one anyway, so nothing else changes in them.
MANAGER = "airflow.providers.fab.auth_manager.models.db.FABDBManager"


def test_a_change_restarts_one_host_after_the_other(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    first, second = hosts
    before = [started(host) for host in hosts]
    with waiting_runs(airflow), probe(hosts) as probed, beating(hosts) as beat:
        run = deployed(**config(parallelism="17"))
        assert run.code == 0, run.output
    assert all(
        started(host)[each] > old[each]
        for host, old in zip(hosts, before, strict=True)
        for each in SERVICES
    )
    # All machines have the clock of this one.
    files = " ".join(f"/run/airflow/airflow-{each}.service" for each in SERVICES)
    times = [shell_of(host)(f"stat -c %Y {files}").split() for host in hosts]
    assert max(map(int, times[0])) <= min(map(int, times[1])), (first.name, second.name, times)
    assert probed.asked > 20 and probed.away == [] and len(beat.begun) > 10
    assert deployed(**config(parallelism="17")).changed == []


def test_a_host_that_does_not_start_leaves_the_other_untouched(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    first, second = hosts
    folder = "/etc/systemd/system/airflow-scheduler.service.d"
    # The unit takes 1 for a success.
    broken = "[Service]\nExecStartPre=/bin/sh -c 'exit 3'\n"
    write_file(first, f"{folder}/99-broken.conf", broken)
    shell_of(first)("systemctl daemon-reload")
    before = started(second)
    with waiting_runs(airflow):
        run = deployed(**config(parallelism="18"))
        assert run.code != 0
        assert f"{first.name} failed: this host stays as it is" in run.output
        assert started(second) == before and is_healthy(second)
        shell_of(first)(f"rm {folder}/99-broken.conf && systemctl daemon-reload")
        run = deployed(**config(parallelism="18"))
        assert run.code == 0, run.output
    assert started(second) != before
    assert deployed(**config(parallelism="18")).changed == []
    run = deployed()  # the next tests know nothing of it
    assert run.code == 0, run.output


def test_without_the_database_for_half_a_minute_no_task_is_lost(
    airflow: Airflow, hosts: tuple[Machine, Machine], database: Machine
) -> None:
    postgres = "postgresql@$(pg_lsclusters -h | awk '{print $1}')-main"
    with waiting_runs(airflow):
        shell_of(database)(f"systemctl stop {postgres}")
        assert shell_of(hosts[0])(f"{OWNER} 'select 1' 2>&1 || true") != "1"
        time.sleep(AWAY)  # that is the outage itself
        shell_of(database)(f"systemctl start {postgres}")
        wait_for(lambda: all(is_healthy(host) for host in hosts), 120 + SLACK, "both are healthy")


# Upgrades


def venv(host: Machine) -> str:
    """The environment that a host's processes have loaded."""
    found = shell_of(host)(
        "for unit in api-server scheduler triggerer; do"
        " sed -n 's|.* /opt/airflow/venvs/\\([^/]*\\)/.*|\\1|p'"
        " /proc/$(systemctl show -P MainPID airflow-$unit)/maps; done | sort -u"
    )
    (one,) = found.splitlines()
    return one


def test_a_patch_release_comes_to_one_host_after_the_other(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    before = [started(host) for host in hosts]
    assert venv(hosts[0]).startswith(f"{OLD}-")
    with waiting_runs(airflow), probe(hosts) as probed, beating(hosts) as beat:
        run = deployed(airflow_version=NEW)
        assert run.code == 0, run.output
    assert venv(hosts[0]) == venv(hosts[1])
    assert venv(hosts[0]).startswith(f"{NEW}-")
    assert all(
        started(host)[each] > then[each]
        for host, then in zip(hosts, before, strict=True)
        for each in SERVICES
    )
    # All hosts at once would have been away for about a minute.
    assert probed.asked > 20 and probed.away == [] and len(beat.begun) > 10
    shell_of(hosts[0])("ls /var/backups/airflow/before-upgrade-2*.tar")
    assert deployed(airflow_version=NEW).changed == []


def test_the_first_host_goes_back_and_the_other_one_follows(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    first, second = map(shell_of, hosts)
    upgraded = venv(hosts[0])
    said = first("! airflow-rollback 2>&1")
    stop = "sudo systemctl disable --now airflow.target"
    assert f"run {stop} there" in said and "nothing was changed" in said
    assert "run airflow-rollback there" in second("! airflow-rollback 2>&1")
    second(stop.removeprefix("sudo "))
    # At first the other host's last sign of life is younger than a minute.
    wait_for(
        lambda: "Then deploy to all hosts" in first("airflow-rollback 2>&1 || true"),
        60 + 60 + SLACK,
        "the first host goes back",
        every=10,
    )
    assert venv(hosts[0]) != upgraded
    Runs(airflow).release(DAG)  # the backup is of the time when it was held
    Runs(airflow).whole(DAG, "hello")
    run = deployed()
    assert run.code == 0, run.output
    assert venv(hosts[0]) == venv(hosts[1]) != upgraded
    assert second("systemctl is-enabled airflow.target") == "enabled"
    assert all(is_healthy(host) for host in hosts)
    assert deployed().changed == []


def test_tables_of_a_package_stop_all_hosts_for_an_upgrade(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    """Nobody knows whether its migrations fit the version of before: it must not see them."""
    managed = {"airflow_config": {"database": {"external_db_managers": MANAGER}}}
    run = deployed(**managed)
    assert run.code == 0, run.output
    with waiting_runs(airflow), probe(hosts) as probed:
        run = deployed(airflow_version=NEW, **managed)
        assert run.code == 0, run.output
    assert probed.away, "one of the hosts ran during the upgrade"
    assert venv(hosts[0]) == venv(hosts[1])
    assert venv(hosts[0]).startswith(f"{NEW}-")
    assert all(is_healthy(host) for host in hosts)
    assert deployed(airflow_version=NEW, **managed).changed == []
