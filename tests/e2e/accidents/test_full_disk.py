"""A disk that is full stops PostgreSQL and the deploy; with room again, all of it comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.data import counts
from tests.e2e.runs import healthy
from tests.e2e.support import Airflow, deploy
from tests.sandbox.common import SandboxError
from tests.support import wait_for

FOLDER = "/var/lib/postgresql"
POSTGRES = "postgresql@$(ls /etc/postgresql)-main"
ROOM_MIB = 350  # more than a deploy wants
# The data moves to a small file system of its own, and back.
SMALLER = f"""
set -e
systemctl stop airflow.target {POSTGRES}
mkdir /srv/small
mount -t tmpfs -o mode=755,size=$(($(du -sm {FOLDER} | cut -f1) + {ROOM_MIB}))m small /srv/small
cp -a {FOLDER}/. /srv/small/
mount --bind /srv/small {FOLDER}
systemctl start {POSTGRES} airflow.target
"""
BACK = f"""
set -e
systemctl stop airflow.target {POSTGRES}
umount {FOLDER}
rm -rf {FOLDER}/*
cp -a /srv/small/. {FOLDER}/
rm -f {FOLDER}/fill
umount /srv/small
rmdir /srv/small
systemctl start {POSTGRES} airflow.target
"""
# PostgreSQL writes its log of changes until it finds no room for the next file.
WRITE = (
    "cd / && runuser -u postgres -- psql -XAtqc"
    " 'create table if not exists e2e_full (); drop table e2e_full; select pg_switch_wal()'"
)
ANSWERS = "cd / && runuser -u postgres -- psql -XAtqc 'select 1' 2>/dev/null || true"


@pytest.fixture(scope="module")
def small(airflow: Airflow, shell: Shell) -> Iterator[None]:
    """PostgreSQL's data is on a disk with little room."""
    shell(SMALLER)
    wait_for(lambda: healthy(airflow), 180, "Airflow is healthy on the small disk")
    yield
    shell(BACK)
    wait_for(lambda: healthy(airflow), 180, "Airflow is healthy again")


def write(shell: Shell) -> bool:
    """Let PostgreSQL write; returns whether it answers afterwards."""
    try:
        shell(WRITE)
    except SandboxError as error:
        print(error)
    return shell(ANSWERS) == "1"


def test_a_full_disk_stops_deploys_and_airflow_is_back_by_itself(
    small: None, airflow: Airflow, shell: Shell
) -> None:
    before = counts(shell)
    assert deploy("--dry").code == 0
    shell(f"dd if=/dev/zero of={FOLDER}/fill bs=1M 2>/dev/null || true")
    wait_for(lambda: not write(shell), 120, "PostgreSQL ends")
    run = deploy()
    assert run.code != 0
    assert f"MiB of disk are free in {FOLDER}" in run.output
    assert "nothing was changed" in run.output and "Starting operation" not in run.output
    assert shell(ANSWERS) == ""
    shell(f"rm {FOLDER}/fill")
    wait_for(lambda: shell(ANSWERS) == "1", 60, "PostgreSQL starts by itself")
    wait_for(lambda: healthy(airflow), 120, "Airflow is back")
    assert counts(shell) == before
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    run = deploy()
    assert run.code == 0 and run.changed == [], run.output


def test_a_killed_postgresql_starts_again(airflow: Airflow, shell: Shell) -> None:
    shell(f"systemctl kill --kill-who=main --signal=KILL {POSTGRES}")
    wait_for(lambda: shell(ANSWERS) == "1", 60, "PostgreSQL starts by itself")
    wait_for(lambda: healthy(airflow), 120, "Airflow is back")


def test_a_stopped_postgresql_stays_stopped(airflow: Airflow, shell: Shell) -> None:
    shell(f"systemctl stop {POSTGRES}; sleep 8")
    assert shell(f"systemctl is-active {POSTGRES} || true") == "inactive"
    shell(f"systemctl start {POSTGRES}")
    wait_for(lambda: healthy(airflow), 120, "Airflow is back")
