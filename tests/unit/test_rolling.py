"""Whether several hosts may change one by one from one virtual environment to another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit import stand_ins

OLD, NEW = "3.3.1-a", "3.3.2-b"
SDK = "airflow/sdk/api/datamodels/_generated.py"
DAGS = "airflow/serialization/serialized_objects.py"
# As Airflow and Alembic write them.
FILES = {
    "airflow/migrations/env.py": "",
    "airflow/migrations/versions/__init__.py": "",
    "airflow/migrations/versions/0001_first.py": "revision = 'a1'\ndown_revision = None\n",
    "airflow/migrations/versions/0002_left.py": "revision = 'b2'\ndown_revision = 'a1'\n",
    "airflow/migrations/versions/0003_right.py": "revision = 'c3'\ndown_revision = 'a1'\n",
    "airflow/migrations/versions/0004_both.py": (
        "revision: str = 'd4'\ndown_revision: tuple[str, str] = ('b2', 'c3')\n"
    ),
    "airflow/providers/fab/migrations/env.py": "",
    "airflow/providers/fab/migrations/versions/0001_fab.py": (
        "revision = 'f1'\ndown_revision = None\n"
    ),
    SDK: 'from typing import Final\nAPI_VERSION: Final[str] = "2026-06-30"\n',
    DAGS: "class DagSerialization:\n    SERIALIZER_VERSION = 3\n",
    "airflow/executors/workloads/__init__.py": "class ExecuteTask: ...\n",
}


@pytest.fixture
def host(tmp_path: Path) -> stand_ins.Host:
    """One of several hosts, with both environments and a database of the old one."""
    found = stand_ins.Host(tmp_path)
    for name in (OLD, NEW):
        for path, text in FILES.items():
            write(tmp_path / "venvs" / name, path, text)
        (tmp_path / "venvs" / name / ".complete").touch()
    (tmp_path / "migrated").write_text(f"{OLD} d4 f1\n")
    (tmp_path / "airflow.cfg").write_text("[core]\nparallelism = 32\n")
    found.values |= {
        "SEVERAL_HOSTS": "first",
        "VENVS": str(tmp_path / "venvs"),
        "MIGRATED": str(tmp_path / "migrated"),
        "CONFIG": str(tmp_path / "airflow.cfg"),
        "BACKUPS": str(tmp_path / "backups"),
    }
    return found


def write(venv: Path, path: str, text: str) -> None:
    """Give an environment a file."""
    file = venv / "lib/python3.11/site-packages" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_environments_of_one_schema_may_run_side_by_side(host: stand_ins.Host) -> None:
    # Airflow corrects migrations that were made long ago.
    earlier = "airflow/migrations/versions/0001_first.py"
    write(host.folder / "venvs" / NEW, earlier, f"# better\n{FILES[earlier]}")
    assert host.check("rolling.py", NEW) == ""


Change = Callable[[Path], object]


def writes(path: str, text: str) -> Change:
    """A change of the new environment."""
    return lambda folder: write(folder / "venvs" / NEW, path, text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            writes(
                "airflow/migrations/versions/0005.py", "revision = 'e5'\ndown_revision = 'd4'\n"
            ),
            "differ in airflow/migrations/versions",
        ),
        (
            writes(
                "airflow/providers/fab/migrations/versions/2.py",
                "revision = 'f2'\ndown_revision = 'f1'\n",
            ),
            "differ in airflow/providers/fab/migrations/versions",
        ),
        # An additional package with tables of its own.
        (
            lambda folder: (
                writes("theirs/alembic/env.py", "")(folder),
                writes("theirs/alembic/versions/1.py", "revision = 'x'\ndown_revision = None\n")(
                    folder
                ),
            ),
            "differ in theirs/alembic/versions",
        ),
        (writes("airflow/migrations/versions/0005.py", "def upgrade(): ..."), "is no migration"),
        (writes("airflow/migrations/versions/0005.py", "revision = name()"), "should stop"),
        (writes("airflow/migrations/versions/0005.py", "revision ="), "should stop"),
        (writes(SDK, 'API_VERSION: Final[str] = "2026-07-31"'), f"differ in {SDK}"),
        (writes(SDK, "API_VERSION = version()"), "does not say its version"),
        (writes(DAGS, "class DagSerialization:\n    SERIALIZER_VERSION = 4\n"), "differ in"),
        (
            writes("airflow/executors/workloads/__init__.py", "class Another: ...\n"),
            "differ in airflow/executors/workloads",
        ),
        (lambda folder: (folder / "venvs" / NEW / ".complete").unlink(), "is not complete"),
        (lambda folder: shutil.rmtree(folder / "venvs" / OLD), "is not complete"),
        (lambda folder: (folder / "migrated").unlink(), "should stop"),
        (
            lambda folder: (folder / "migrated").write_text(f"{OLD} c3 f1\n"),
            "the database is not at the end of the migrations",
        ),
        (
            lambda folder: (folder / "airflow.cfg").write_text(
                "[database]\nexternal_db_managers = theirs.Manager\n"
            ),
            "theirs.Manager may change the schema",
        ),
    ],
)
def test_all_hosts_stop_unless_it_is_certain(
    change: Change, said: str, host: stand_ins.Host
) -> None:
    change(host.folder)
    assert said in host.check("rolling.py", NEW)


@pytest.mark.parametrize("change", [False, True])
def test_the_backup_stops_airflow_only_if_it_must(change: bool, host: stand_ins.Host) -> None:
    if change:
        write(host.folder / "venvs" / NEW, SDK, "")
    host.program("systemctl")
    for name in ("psql", "pg_dump", "runuser", "setpriv"):
        host.program(name, "exit 1")
    said = host.apply("upgrade.sh", NEW)
    assert "airflow-backup" in said  # there is no database here
    host.folder.joinpath("backups").mkdir(exist_ok=True)
    pending = host.folder / "backups" / f"{host.values['BACKUP_PENDING']}.tar"
    pending.touch()
    # One that was made while Airflow ran lacks what happened since: another one is made.
    assert ("airflow-backup" in host.apply("upgrade.sh", NEW)) is not change
    assert bool(host.called("systemctl")) is change
    pending.with_suffix(".ran").touch()
    assert "airflow-backup" in host.apply("upgrade.sh", NEW)
