"""The command airflow-backup, run for real in a folder that stands for a host."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.unit import fake

COMMAND = "/usr/local/bin/airflow-backup"
RESTORE = "/usr/local/bin/airflow-restore"
# In the place of what only a host with PostgreSQL has, or only root may do.
PROGRAMS = {
    "id": "echo 0",
    "setpriv": 'shift 3; exec "$@"',
    "psql": "echo 1000",
    "pg_dump": "echo a dump",
}
# What is in a backup, from the root of the host: what going back brings back.
KEPT = [
    "etc/airflow/airflow.cfg",
    "etc/airflow/pod_template.yaml",
    "etc/airflow/secrets/admin-password",
    "etc/airflow/secrets/fernet-key",
    "etc/airflow/secrets/jwt-secret",
    "etc/airflow/secrets/objects.json",
    "etc/systemd/system/airflow-scheduler.service",
    "etc/systemd/system/airflow-backup.timer",
    "etc/systemd/system/airflow.target",
    "usr/local/bin/airflow",
    "usr/local/bin/airflow-rotate",
    "usr/local/lib/airflow/run",
]
NOT_KEPT = [
    # The token of the day: after a change of it an older one is worth nothing.
    "etc/airflow/kubeconfig",
    "etc/airflow/kubeconfig-triggerer",
    # Whoever had the authority's key could pass for the host; and pods trust the one of today.
    "etc/airflow/tls/ca.pem",
    "etc/airflow/tls/ca-key.pem",
    "etc/airflow/tls/server.pem",
    "etc/airflow/tls/web.pem",
    # Half of a rotation, which a restore would leave half done.
    "etc/airflow/secrets/jwt-keys",
    "etc/systemd/system/airflow-api-server.service.d/jwt-keys.conf",
    # Of others, or made again by a deploy.
    "etc/systemd/system/minikube.service",
    "etc/postgresql/15/main/pg_hba.conf",
    "usr/local/bin/kubectl",
    "usr/local/bin/minikube",
    "opt/airflow/dags/team.py",
    "var/log/airflow/task.log",
    "var/lib/airflow/notes",
]


class Host:
    """A folder that stands for a host with a deployed Airflow."""

    def __init__(self, root: Path, kept: int) -> None:
        self.root, self.backups = root / "root", root / "root/var/backups/airflow"
        for name in (*KEPT, *NOT_KEPT, "var/lib/airflow-deploy/migrated"):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        self.backups.mkdir(parents=True)
        (root / "bin").mkdir()
        for name, script in PROGRAMS.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (root / "bin" / name).chmod(0o755)
        self.scripts = root / "scripts"
        self.scripts.mkdir()
        plan = fake.plan(fake.settings({"retention_backups": kept}))
        for command, name in ((COMMAND, "airflow-backup"), (RESTORE, "airflow-rollback")):
            text = plan.uploads[command]
            # The whole paths are those of the folder.
            text = re.sub(r"(?<![\w.*])/(etc|var|run)/", rf"{self.root}/\1/", text)
            text = text.replace("\ncd /\n", f"\ncd {self.root}\n")
            (self.scripts / name).write_text(text.replace("tar -C /", f"tar -C {self.root}"))
        (self.root / "run/lock").mkdir(parents=True)
        self.path = f"{root}/bin:/usr/bin:/bin"

    def call(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the commands."""
        return subprocess.run(
            ["sh", str(self.scripts / name), *arguments],
            env={"PATH": self.path},
            text=True,
            capture_output=True,
            check=False,
        )

    def run(self, *arguments: str) -> Path:
        """Make a backup; returns its file."""
        done = self.call("airflow-backup", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return Path(done.stdout.strip())

    def older(self, *names: str) -> None:
        """Have these backups from earlier: the first is the oldest, whatever its name says."""
        for age, name in enumerate(reversed(names), start=1):
            path = self.backups / f"{name}.tar"
            path.touch()
            then = path.stat().st_mtime - age * 3600
            os.utime(path, (then, then))

    def names(self) -> set[str]:
        """Names of all backups that there are."""
        return {path.stem for path in self.backups.glob("*.tar")}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One that keeps three backups of the night."""
    return Host(tmp_path, kept=3)


def test_a_backup_has_what_going_back_needs_and_nothing_else(host: Host, tmp_path: Path) -> None:
    made = host.run()
    assert made.stat().st_mode & 0o777 == 0o600
    assert list(host.backups.iterdir()) == [made]
    folder = tmp_path / "opened"
    folder.mkdir()
    subprocess.run(["tar", "-xf", made], cwd=folder, check=True)
    parts = {"SHA256SUMS", "about", "database.dump", "host.tar"}
    assert {path.name for path in folder.iterdir()} == parts
    assert (folder / "database.dump").read_text() == "a dump\n"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    with tarfile.open(folder / "host.tar") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert files == set(KEPT)


def test_of_the_nights_the_youngest_are_kept_and_others_are_no_business_of_theirs(
    host: Host,
) -> None:
    # The clock of the host was wrong: it is by their age that they go.
    nights = [f"airflow-20{day}T023000Z" for day in ("300101", "260102", "260101", "260103")]
    host.older("before-upgrade-1", "by-hand", *nights)
    made = host.run()
    assert host.names() == {"before-upgrade-1", "by-hand", *nights[-2:], made.stem}


def test_of_those_before_a_change_three_are_kept_and_no_other_goes(host: Host) -> None:
    host.older("before-upgrade-9", "before-restore-1", "before-rollback-5", "airflow-1", "my-own")
    made = host.run("before-upgrade-0")
    assert host.names() == {
        *("before-restore-1", "before-rollback-5", made.stem),
        *("airflow-1", "my-own"),
    }


def test_one_made_by_hand_is_kept_where_there_are_none_of_the_night(tmp_path: Path) -> None:
    host = Host(tmp_path, kept=0)
    assert host.run().exists()


def test_going_back_is_to_before_the_last_upgrade(host: Host) -> None:
    (host.root / NOT_KEPT[6]).unlink()  # no rotation was interrupted
    host.older("before-upgrade-3", "before-upgrade-1", "before-upgrade-2", "before-restore-4")
    done = host.call("airflow-rollback")  # they hold nothing, as it says of the one that it takes
    assert done.returncode == 1 and "/before-upgrade-2.tar is damaged" in done.stderr
    assert "nothing was changed" in done.stderr


def test_the_question_whether_there_is_room_makes_none(host: Host) -> None:
    host.run("--check")
    assert host.names() == set()
