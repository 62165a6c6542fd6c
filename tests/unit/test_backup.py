"""The commands that back up and restore, run for real in a folder that stands for a host."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tasks import layout
from tests.unit import fake, programs

# In the place of what only a host with PostgreSQL has, or only root may do.
PROGRAMS = {
    "id": "echo 0",
    "setpriv": 'shift 3; exec "$@"',
    "psql": """
case "$*" in
*" -c "*) echo "$*" | sed 's/.* -c //' | tr '\\n' ' ' >>$here/sql; echo >>$here/sql ;;
*pg_database_size*) echo 1000 ;;
*) cat >/dev/null ;;
esac""",
    "pg_dump": "echo a dump",
    "runuser": 'shift 3; exec "$@"',
    "createdb": "",
    "pg_restore": "cat >$here/restored",
    "df": "echo Avail; echo 1000000000",
    "ctr": "echo an image",
    "systemctl": "echo $* >>$here/systemctl",
    "curl": "cat $here/health",
}
HEALTHY = json.dumps(
    {
        name: {"status": "healthy"}
        for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
    },
    separators=(",", ":"),
)
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
    "etc/systemd/system/airflow-web.socket",
    "usr/local/bin/airflow",
    "usr/local/bin/airflow-rotate",
    "usr/local/lib/airflow/run",
    # The lists of these files, so that a deploy after a rollback finds them true.
    "var/lib/airflow-deploy/programs",
    "var/lib/airflow-deploy/units",
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
            (root / "bin" / name).write_text(f"#!/bin/sh\nhere={root}\n{script}\n")
            (root / "bin" / name).chmod(0o755)
        self.rollback = root / "airflow-rollback"
        self.rollback.symlink_to(programs.BIN / "airflow-restore")
        env = programs.host_env(root, fake.settings({"retention_backups": kept}))
        (self.root / "run").mkdir()
        (root / "health").write_text(HEALTHY)
        self.folder = root
        self.env = {**env, "PATH": f"{root}/bin:/usr/bin:/bin"}

    def call(self, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the commands."""
        return subprocess.run(
            [program, *arguments],
            env=self.env,
            text=True,
            capture_output=True,
            check=False,
        )

    def run(self, *arguments: str) -> Path:
        """Make a backup; returns its file."""
        done = self.call(programs.BIN / "airflow-backup", *arguments)
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
    done = host.call(host.rollback)  # they hold nothing, as it says of the one that it takes
    assert done.returncode == 1 and "/before-upgrade-2.tar is damaged" in done.stderr
    assert "nothing was changed" in done.stderr


def test_the_question_whether_there_is_room_makes_none(host: Host) -> None:
    host.run("--check")
    assert host.names() == set()


# Going back, with a PostgreSQL that only notes what it should do


OLD = "3.3.1-0123"


@pytest.fixture
def upgraded(host: Host) -> tuple[Host, Path]:
    """A host that was upgraded, and its backup from before: of an earlier form of the deploy."""
    (host.root / NOT_KEPT[6]).unlink()  # no rotation was interrupted
    (host.root / "etc/airflow/pod_template.yaml").write_text("image: localhost/worker:1\n")
    migrated = host.root / "var/lib/airflow-deploy/migrated"
    migrated.write_text(f"{OLD} 12 34\n")
    for venv in (OLD, "3.3.2-4567"):
        (host.root / f"opt/airflow/venvs/{venv}").mkdir(parents=True)
        (host.root / f"opt/airflow/venvs/{venv}/.complete").touch()
    backup = host.run("before-upgrade-1")
    for name in KEPT:
        (host.root / name).write_text("new")
    # A file that the earlier form did not have.
    (host.root / "etc/airflow/host.env").write_text("new")
    (host.root / "opt/airflow/venv").symlink_to(host.root / "opt/airflow/venvs/3.3.2-4567")
    migrated.write_text("3.3.2-4567 12 34\n")
    return host, backup


def kept_files(host: Host) -> dict[str, str]:
    """The content of the files that a backup has."""
    return {name: (host.root / name).read_text() for name in KEPT}


def test_a_rollback_brings_back_version_configuration_secrets_and_data(
    upgraded: tuple[Host, Path],
) -> None:
    host, backup = upgraded
    done = host.call(host.rollback)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'Write airflow_version = "3.3.1" into the inventory' in done.stdout
    expected = {name: name for name in KEPT}
    expected["etc/airflow/pod_template.yaml"] = "image: localhost/worker:1\n"
    assert kept_files(host) == expected
    assert (host.root / "etc/airflow/host.env").read_text() == "new"
    assert (host.root / "opt/airflow/venv").readlink() == host.root / f"opt/airflow/venvs/{OLD}"
    migrated = host.root / "var/lib/airflow-deploy/migrated"
    assert migrated.read_text() == f"{OLD} 12 34\n"
    assert (host.folder / "restored").read_text() == "a dump\n"
    # The backup is used up, and the state before the rollback is kept.
    assert not backup.exists() and len(host.names()) == 2
    assert {name.rpartition("-")[0] for name in host.names()} == {
        "before-undone",
        "before-rollback",
    }
    calls = (host.folder / "systemctl").read_text().splitlines()
    assert calls[0].startswith("stop airflow.target airflow-api-server.service")
    assert calls[1:] == ["daemon-reload", "start airflow.target"]
    assert not list((host.root / "var/lib/airflow-deploy").glob("restore.*"))


def test_a_restore_brings_back_secrets_and_data_only(upgraded: tuple[Host, Path]) -> None:
    host, backup = upgraded
    done = host.call(programs.BIN / "airflow-restore", str(backup))
    assert (done.returncode, done.stderr) == (0, "")
    secrets = {name: name for name in KEPT if name.startswith("etc/airflow/secrets/")}
    assert kept_files(host) == {**dict.fromkeys(KEPT, "new"), **secrets}
    assert (host.root / "opt/airflow/venv").readlink().name == "3.3.2-4567"
    sql = (host.folder / "sql").read_text()
    assert "alter database airflow_new rename to airflow;" in sql
    # The earlier database goes last, when Airflow is healthy.
    assert sql.splitlines()[-2].startswith("drop database if exists airflow_old")
    assert backup.exists()


def test_an_unhealthy_airflow_keeps_what_was_there_before(upgraded: tuple[Host, Path]) -> None:
    host, backup = upgraded
    (host.folder / "health").write_text("{}")
    (host.folder / "bin/sleep").write_text("#!/bin/sh\n")
    (host.folder / "bin/sleep").chmod(0o755)
    done = host.call(programs.BIN / "airflow-restore", str(backup))
    assert done.returncode == 1 and "is not healthy after a minute" in done.stderr
    assert "in the database airflow_old and in" in done.stderr
    after = (host.folder / "sql").read_text().partition("begin; alter")[2]
    assert "airflow_old" not in after.partition("commit")[2]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("venv", "3.3.1-0123 is gone: deploy with airflow_version"),
        ("jwt-keys", "run airflow-rotate jwt-secret first"),
        ("lock", "a deploy of this host runs"),
        ("image", "the worker image localhost/worker:1 is gone from the node"),
    ],
)
def test_a_rollback_that_can_not_succeed_changes_nothing(
    damage: str, says: str, upgraded: tuple[Host, Path]
) -> None:
    host, backup = upgraded
    lock = host.root / layout.DEPLOY_LOCK.lstrip("/")
    lock.parent.mkdir()
    lock.touch()
    if damage == "venv":
        (host.root / f"opt/airflow/venvs/{OLD}/.complete").unlink()
    elif damage == "jwt-keys":
        (host.root / NOT_KEPT[6]).touch()
    elif damage == "image":
        (host.folder / "bin/ctr").write_text("#!/bin/sh\n")
    with lock.open() as file:
        if damage == "lock":
            fcntl.flock(file, fcntl.LOCK_EX)
        done = host.call(host.rollback)
    assert done.returncode == 1 and says in done.stderr and "nothing was changed" in done.stderr
    assert kept_files(host) == dict.fromkeys(KEPT, "new") and backup.exists()
    assert not (host.folder / "systemctl").exists()


# Before an upgrade


def test_an_upgrade_stops_airflow_and_backs_it_up_once(host: Host) -> None:
    upgrade, pending = programs.LIB / "upgrade.sh", host.backups / "before-upgrade-pending.tar"
    migrated = host.root / "var/lib/airflow-deploy/migrated"
    migrated.write_text(f"{OLD} 12 34\n")
    assert host.call(upgrade, "check", OLD).returncode == 0
    check = host.call(upgrade, "check", "3.3.2-4567")
    assert check.returncode == 1 and check.stderr.count("\n") == 1 and OLD in check.stderr
    done = host.call(upgrade, "apply", "3.3.2-4567")
    assert (done.returncode, done.stderr) == (0, "")
    made = pending.read_bytes()
    # The next run after a kill keeps the backup: by then Airflow may be half upgraded.
    assert host.call(upgrade, "apply", "3.3.2-4567").returncode == 0
    assert pending.read_bytes() == made and host.names() == {pending.stem}
    calls = (host.folder / "systemctl").read_text().splitlines()
    assert len(calls) == 2 and all(call.startswith("stop airflow.target ") for call in calls)
    migrated.unlink()  # a first deploy
    assert host.call(upgrade, "check", OLD).returncode == 0


@pytest.mark.parametrize("full", [True, False])
def test_without_a_backup_airflow_is_not_upgraded_and_runs_on(host: Host, full: bool) -> None:
    name = "df" if full else "pg_dump"
    (host.folder / "bin" / name).write_text("#!/bin/sh\necho Avail; echo 0\nexit 1\n")
    (host.root / "var/lib/airflow-deploy/migrated").write_text(f"{OLD} 12 34\n")
    assert host.call(programs.LIB / "upgrade.sh", "apply", "3.3.2-4567").returncode != 0
    calls = host.folder / "systemctl"
    seen = calls.read_text().splitlines() if calls.exists() else []
    assert [call.split()[0] for call in seen] == ([] if full else ["stop", "start"])
    assert host.names() == set()
