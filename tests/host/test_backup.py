"""Backups: the content of the newest one, and the number that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import Facts, Host, only_if, python

if_there_is_one = only_if(lambda facts: facts.backups, "this host has no backup yet")


@pytest.fixture(scope="module")
def newest(host: Host, facts: Facts) -> dict[str, Any]:
    """The content of the newest backup."""
    return dict(python(host, "backup", next(iter(facts.backups))))


@if_there_is_one
def test_only_root_reads_it(newest: dict[str, Any]) -> None:
    assert (newest["mode"], newest["owner"]) == ("600", [0, 0])


@if_there_is_one
def test_it_is_whole(newest: dict[str, Any]) -> None:
    parts = [each for each in newest["parts"] if each != "MAC"]  # older ones have none
    assert parts == ["SHA256SUMS", "about", "database.dump", "host.tar"]
    assert newest["right_checksums"] == ["about", "database.dump", "host.tar"]


@if_there_is_one
def test_it_holds_the_database(newest: dict[str, Any]) -> None:
    assert set(expected.BACKUP_TABLES) <= set(newest["tables"])


@if_there_is_one
def test_it_holds_secrets_and_configuration(newest: dict[str, Any], facts: Facts) -> None:
    # One from before an upgrade has the units of the deploy before.
    older = Path(next(iter(facts.backups))).name.startswith("before-upgrade")
    wanted = {each for each in expected.BACKUP_HOLDS if not (older and "/systemd/" in each)}
    assert wanted <= set(newest["files"])


@if_there_is_one
@pytest.mark.parametrize("other", expected.BACKUP_LACKS)
def test_it_does_not_hold(other: str, newest: dict[str, Any]) -> None:
    found = [name for name in newest["files"] if f"{name}/".startswith(f"{other}/")]
    assert found == [], expected.BACKUP_LACKS[other]


@if_there_is_one
def test_it_names_its_origin(newest: dict[str, Any], settings: HostSettings) -> None:
    about = dict(line.split(" ", 1) for line in newest["about"])
    assert set(about) == {"made", "size", "migrated", "image"}
    assert int(about["size"]) > 0


@only_if(lambda facts: facts.nightly_backup, "the timer has not made a backup yet")
def test_last_nightly_backup_is_there(facts: Facts) -> None:
    nightly = [made for path, made in facts.backups.items() if _is_nightly(path)]
    assert max(nightly, default=0) >= facts.nightly_backup


@only_if(
    lambda facts: max(facts.backups.values(), default=0) > facts.backup_program,
    "no backup was made since the settings said how many are kept",
)
def test_no_more_are_kept_than_wanted(facts: Facts, settings: HostSettings) -> None:
    nightly = [path for path in facts.backups if _is_nightly(path)]
    # One made by hand is kept also where the timer makes none.
    assert len(nightly) <= max(settings.retention.backups, 1)
    before = [path for path in facts.backups if Path(path).name.startswith("before-")]
    assert len(before) <= expected.BACKUPS_BEFORE


def _is_nightly(path: str) -> bool:
    return Path(path).name.startswith("airflow-")
