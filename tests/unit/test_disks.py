"""The room of the host's file systems reaches Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tasks import layout
from tests.unit import fake, postgres
from tests.unit.stand_ins import Host

SHARED_MEMORY = "/dev/shm"  # a file system of its own on every Linux


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A database of Airflow."""
    with postgres.with_exporter() as running:
        yield running


@pytest.fixture
def host(tmp_path: Path, server: postgres.Server) -> Host:
    """A host with two file systems, of which one holds two of the folders."""
    host = Host(tmp_path)
    server.sql("drop schema if exists deploy cascade", "airflow")
    host.program("setpriv", server.setpriv())
    host.values["DISKS"] = f"/ /etc {SHARED_MEMORY} /no/such/folder"
    return host


def told(server: postgres.Server) -> dict[str, list[int]]:
    """The exporter's figures: free bytes, size, free inodes and inodes of each folder."""
    queries = yaml.safe_load((fake.FILES / "usr/local/lib/airflow/metrics.yaml").read_text())
    asked = f"set role prometheus; {queries['airflow_disk']['query']}"
    rows = [line.split("|") for line in server.sql(asked, "airflow").splitlines()]
    return {folder: [int(figure) for figure in figures] for folder, *figures in rows}


def test_the_room_is_recorded_once_for_each_file_system(
    host: Host, server: postgres.Server
) -> None:
    assert "does not have the free space" in host.check("disks.sh")
    assert host.apply("disks.sh") == host.check("disks.sh") == ""
    found = told(server)
    assert found.keys() == {"/", SHARED_MEMORY}
    for folder, (free, size, free_files, files) in found.items():
        there = os.statvfs(folder)
        assert size == there.f_blocks * there.f_frsize
        assert abs(free - there.f_bavail * there.f_frsize) < 2**30
        assert files == there.f_files
        assert abs(free_files - there.f_favail) < 100_000


def test_a_record_that_is_old_or_of_other_disks_is_told(
    host: Host, server: postgres.Server
) -> None:
    assert host.apply("disks.sh") == ""
    for change in (
        "update deploy.disk set at = now() - interval '11 minutes'",
        "delete from deploy.disk where folder = '/'",
        "insert into deploy.disk values (1, 1, 1, 1, '/srv')",
    ):
        server.sql(change, "airflow")
        assert "does not have the free space" in host.check("disks.sh"), change
        assert host.apply("disks.sh") == host.check("disks.sh") == ""
        assert told(server).keys() == {"/", SHARED_MEMORY}


def test_an_exporter_may_read_it_also_after_a_restore(host: Host, server: postgres.Server) -> None:
    """A dump is restored without rights."""
    assert host.apply("disks.sh") == ""
    server.sql("revoke all on deploy.disk from prometheus", "airflow")
    assert "can't read" in host.check("disks.sh")
    assert host.apply("disks.sh") == host.check("disks.sh") == ""
    assert told(server)


def test_what_was_told_last_stays_while_the_database_takes_no_more(
    host: Host, server: postgres.Server
) -> None:
    assert host.apply("disks.sh") == ""
    before = told(server)
    server.sql("alter role airflow set default_transaction_read_only = on")
    try:
        assert "read-only" in host.apply("disks.sh")
    finally:
        server.sql("alter role airflow reset all")
    assert told(server) == before


def test_all_that_fills_is_looked_at() -> None:
    for folder in (layout.LOGS, layout.BACKUPS, "/var/lib/postgresql", "/var/lib/containerd"):
        assert folder in layout.DISKS
    plan = fake.plan(fake.settings(fake.VARIANTS["metrics"]))
    assert "Record the free space of the file systems" in " ".join(plan.names)
    assert "Record the free space" not in " ".join(fake.plan(fake.settings()).names)
