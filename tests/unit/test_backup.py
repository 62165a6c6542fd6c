"""The commands that back up and restore, run for real in a folder that stands for a host."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tasks import layout
from tests.unit import fake, programs

# Stand-ins for programs that only a host with PostgreSQL has, or that only root may run.
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
# The files of a backup, from the root of the host: a rollback brings them back.
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
    # A rollback would bring back what was replaced since.
    "etc/airflow/kubeconfig.d/token",
    "etc/airflow/kubeconfig-renewal",
    "etc/airflow/kubeconfig-renewal.d/token",
    "etc/airflow/cluster.kubeconfig",
    "etc/airflow/database-owner.login",
    "etc/airflow/database-dags.login",
]


class Host:
    """A folder that stands for a host with a deployed Airflow."""

    def __init__(self, root: Path, kept: int, recipient: str | None = None) -> None:
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
        given = {"retention_backups": kept, "retention_backup_recipient": recipient}
        env = programs.host_env(root, fake.settings(given))
        (self.root / "run").mkdir()
        (root / "health").write_text(HEALTHY)
        self.folder = root
        (self.root / "var/lib/airflow-deploy/backup-key").write_text("0123\n")
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
        """Have these backups. The time of their files says nothing: they have all been copied."""
        for age, name in enumerate(names, start=1):
            path = self.backups / f"{name}.tar"
            path.touch()
            then = path.stat().st_mtime + age * 3600
            os.utime(path, (then, then))

    def names(self) -> set[str]:
        """Names of all backups that there are."""
        return {path.stem for path in self.backups.glob("*.tar")}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One that keeps two backups of the night, and three of those before a change."""
    return Host(tmp_path, kept=2)


def test_a_backup_has_all_that_a_restore_needs_and_nothing_else(host: Host, tmp_path: Path) -> None:
    (host.backups / ".new.killed").mkdir()  # with secrets
    (host.backups / ".new.killed/host.tar").touch()
    made = host.run()
    assert made.stat().st_mode & 0o777 == 0o600
    assert list(host.backups.iterdir()) == [made]
    folder = tmp_path / "opened"
    folder.mkdir()
    subprocess.run(["tar", "-xf", made], cwd=folder, check=True)
    parts = {"SHA256SUMS", "MAC", "about", "database.dump", "host.tar"}
    assert {path.name for path in folder.iterdir()} == parts
    assert (folder / "database.dump").read_text() == "a dump\n"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    with tarfile.open(folder / "host.tar") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert files == set(KEPT)


@pytest.mark.parametrize("words", ["--help", "-h", "../moving", "a/b", "moving twice"])
def test_neither_an_option_nor_a_path_is_the_name_of_a_backup(host: Host, words: str) -> None:
    backups = host.root / "var/backups/airflow"
    before = sorted(backups.iterdir())
    done = host.call(programs.BIN / "airflow-backup", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "usage: airflow-backup [NAME]",
        "usage: airflow-backup --check",
    ]
    assert sorted(backups.iterdir()) == before


def test_a_backup_of_the_night_waits_for_a_deploy(host: Host, tmp_path: Path) -> None:
    """Half of its units and programs may be new ones, and half of before."""
    lock = host.root / layout.DEPLOY_LOCK.lstrip("/")
    lock.parent.mkdir(parents=True)
    lock.touch()
    order = tmp_path / "order"
    with subprocess.Popen(
        ["flock", lock, "sh", "-c", f"echo; timeout 60 cat; sleep 2; echo deploy >> {order}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as deploy:
        assert deploy.stdin and deploy.stdout
        deploy.stdout.readline()
        # That of before an upgrade is made by the deploy itself, which holds the lock.
        host.run("before-upgrade-pending")
        assert not order.exists()
        deploy.stdin.close()
        host.run()
        assert order.read_text() == "deploy\n"


def test_of_the_nights_the_youngest_are_kept_and_others_are_no_business_of_theirs(
    host: Host,
) -> None:
    nights = [f"airflow-202601{day:02}T023000Z" for day in (4, 3, 2, 1)]
    # A clock that was ahead made it: it pushes none out, and stays until its time has come.
    ahead = "airflow-20990101T023000Z"
    host.older("before-upgrade-20260101T000000Z", "by-hand", "airflow-mine", ahead, *nights)
    made = host.run()
    assert host.names() == {
        *("before-upgrade-20260101T000000Z", "by-hand", "airflow-mine", ahead),
        *nights[:1],
        made.stem,
    }


def test_the_one_that_was_just_made_stays_even_after_a_clock_that_was_ahead(host: Host) -> None:
    ahead = [f"airflow-20990{day}01T023000Z" for day in range(1, 8)]
    host.older(*ahead)
    made = host.run()
    assert made.exists() and host.names() == {*ahead, made.stem}


def test_of_those_before_a_change_three_are_kept_and_no_other_goes(host: Host) -> None:
    names = [
        f"before-{kind}-2026010{day}T000000Z"
        for day, kind in enumerate(("upgrade", "rollback", "restore", "undone"), start=1)
    ]
    host.older(*names, "airflow-20260101T023000Z", "my-own")
    made = host.run("before-upgrade-pending")
    assert host.names() == {*names[-2:], made.stem, "airflow-20260101T023000Z", "my-own"}


def test_one_made_by_hand_is_kept_where_there_are_none_of_the_night(tmp_path: Path) -> None:
    host = Host(tmp_path, kept=0)
    assert host.run().exists()


def test_going_back_is_to_before_the_last_upgrade(host: Host) -> None:
    (host.root / NOT_KEPT[6]).unlink()  # no rotation was interrupted
    times = [f"2026010{day}T000000Z" for day in (2, 4, 3)]
    host.older(*(f"before-upgrade-{time}" for time in times), "before-restore-20260105T000000Z")
    done = host.call(host.rollback)  # they hold nothing, as it says of the one that it takes
    assert done.returncode == 1 and "/before-upgrade-20260104T000000Z.tar is damaged" in done.stderr
    assert "nothing was changed" in done.stderr


def test_the_question_whether_there_is_room_makes_none(host: Host) -> None:
    host.run("--check")
    assert host.names() == set()


# Going back, with a PostgreSQL that only records its statements


OLD = "3.3.1-0123"


@pytest.fixture
def upgraded(host: Host) -> tuple[Host, Path]:
    """A host that was upgraded, and its backup from before: of an earlier form of the deploy."""
    (host.root / NOT_KEPT[6]).unlink()  # no rotation was interrupted
    (host.root / "etc/airflow/pod_template.yaml").write_text("image: localhost/worker:1\n")
    migrated = host.root / "var/lib/airflow-deploy/migrated"
    migrated.write_text(f"{OLD} 12 34\n")
    for venv in (OLD, "3.3.2-4567"):
        (host.root / f"opt/airflow/venvs/{venv}/bin").mkdir(parents=True)
        (host.root / f"opt/airflow/venvs/{venv}/.complete").touch()
        (host.root / f"opt/airflow/venvs/{venv}/bin/python").symlink_to("/bin/sh")
    backup = host.run("before-upgrade-20260101T000000Z")
    for name in KEPT:
        (host.root / name).write_text("new")
    # A file that the earlier form did not have.
    (host.root / "etc/airflow/host.env").write_text("new\nPGCLUSTER=then/main\n")
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
    # The programs ask the PostgreSQL that has the data now.
    now = f"PGCLUSTER={fake.settings().postgres_cluster}\n"
    assert (host.root / "etc/airflow/host.env").read_text() == f"new\n{now}"
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
    called = (host.folder / "systemctl").read_text().splitlines()
    calls = [each for each in called if not each.startswith("show ")]
    assert calls[0].startswith("stop airflow.target airflow-api-server.service")
    assert calls[1:] == ["daemon-reload", "start airflow.target"]
    assert not (host.root / "var/lib/airflow-deploy/restore-unfinished").exists()
    assert not list((host.root / "var/lib/airflow-deploy").glob("restore.*"))


def test_a_rollback_replaces_its_own_programs_and_runs_those_of_the_backup(
    upgraded: tuple[Host, Path],
) -> None:
    host, backup = upgraded
    migrated, usr = host.root / "var/lib/airflow-deploy/migrated", host.root / "usr/local"
    backup.unlink()
    migrated.write_text(f"{OLD} 12 34\n")
    own = [usr / name for name in ("bin/airflow-restore", "lib/airflow/commands.py")]
    for path in own:
        path.write_text("of the backup")
    health = usr / "lib/airflow/health.sh"
    health.write_text(f"#!/bin/sh\necho of the backup >{host.folder}/asked\n")
    health.chmod(0o755)
    host.run("before-upgrade-20260101T000000Z")
    migrated.write_text("3.3.2-4567 12 34\n")
    for folder in (programs.BIN, programs.LIB):
        there = usr / folder.relative_to(programs.BIN.parent)
        shutil.copytree(folder, there, dirs_exist_ok=True)
    (usr / "bin/airflow-rollback").symlink_to("airflow-restore")
    done = host.call(usr / "bin/airflow-rollback")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.read_text() for path in own] == ["of the backup"] * 2
    assert (host.folder / "asked").read_text() == "of the backup\n"


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


def test_an_unhealthy_airflow_keeps_the_backup_and_the_state_of_before(
    upgraded: tuple[Host, Path],
) -> None:
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
        ("venv", "3.3.1-0123 is gone, or its Python: deploy with airflow_version"),
        ("python", "3.3.1-0123 is gone, or its Python: deploy with airflow_version"),
        ("jwt-keys", "with airflow-rotate jwt-secret"),
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
    elif damage == "python":  # as another Debian leaves it
        python = host.root / f"opt/airflow/venvs/{OLD}/bin/python"
        python.unlink()
        python.symlink_to("/usr/bin/python3.gone")
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


@pytest.mark.parametrize(
    "place", ["//airflow@/airflow?host=db-2&port=5432&sslmode=x", "///x?host=y"]
)
def test_a_rollback_does_not_lead_to_another_database(
    place: str, upgraded: tuple[Host, Path]
) -> None:
    """The version's configuration names a database that is not the one of now."""
    host, _ = upgraded
    line = f"sql_alchemy_conn = postgresql+psycopg2:{place}\n"
    (host.root / "etc/airflow/airflow.cfg").write_text(line)
    done = host.call(host.rollback)
    assert done.returncode == 1 and "the database has moved since the backup" in done.stderr
    assert "nothing was changed" in done.stderr and not (host.folder / "systemctl").exists()


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["all"], 2), (["--trusted"], 2)])
def test_a_rollback_with_other_words_changes_nothing(
    words: list[str], code: int, upgraded: tuple[Host, Path]
) -> None:
    host, _ = upgraded
    done = host.call(host.rollback, *words)
    said = done.stdout if code == 0 else done.stderr
    assert (done.returncode, said.split("[")[0]) == (code, "usage: airflow-rollback ")
    assert kept_files(host) == dict.fromkeys(KEPT, "new")
    assert not (host.folder / "systemctl").exists()


# Changed backups, and encrypted ones


def change(backup: Path, folder: Path) -> Path:
    """A backup with another file in it, and with the right checksums."""
    folder.mkdir()
    subprocess.run(["tar", "-xf", backup], cwd=folder, check=True)
    (folder / "etc/airflow/secrets").mkdir(parents=True)
    (folder / "etc/airflow/secrets/jwt-secret").write_text("known to others")
    for command in (
        "tar -rf host.tar etc",
        "sha256sum about database.dump host.tar >SHA256SUMS",
        "tar -cf changed.tar SHA256SUMS MAC about database.dump host.tar",
    ):
        subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    return folder / "changed.tar"


def test_a_backup_that_this_host_has_not_made_needs_a_word(
    upgraded: tuple[Host, Path], tmp_path: Path
) -> None:
    host, backup = upgraded
    changed = change(backup, tmp_path / "changed")
    restore = programs.BIN / "airflow-restore"
    done = host.call(restore, str(changed))
    assert done.returncode == 1 and "is not as this host has made it" in done.stderr
    assert kept_files(host) == dict.fromkeys(KEPT, "new")
    assert not (host.folder / "systemctl").exists()
    # Of another host, which has another key.
    (host.root / "var/lib/airflow-deploy/backup-key").write_text("4567\n")
    assert host.call(restore, str(backup)).returncode == 1
    assert host.call(host.rollback).returncode == 1
    done = host.call(restore, "--trust", str(backup))
    assert (done.returncode, done.stderr) == (0, "")
    assert kept_files(host)["etc/airflow/secrets/jwt-secret"] == "etc/airflow/secrets/jwt-secret"


def link(name: str, target: Path) -> tarfile.TarInfo:
    """A link in an archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, str(target)
    return member


@pytest.mark.parametrize("name", ["SHA256SUMS", "MAC", "about", "database.dump", "host.tar"])
def test_a_link_in_a_backup_is_not_followed(
    name: str, upgraded: tuple[Host, Path], tmp_path: Path
) -> None:
    """The checksums know nothing of it."""
    host, backup = upgraded
    theirs, changed = tmp_path / "theirs", tmp_path / "changed.tar"
    with tarfile.open(backup) as genuine, tarfile.open(changed, "w") as made:
        for member in genuine:
            content = genuine.extractfile(member)
            assert content
            if member.name == name:
                theirs.write_bytes(content.read())
                made.addfile(link(name, theirs))
            else:
                made.addfile(member, content)
    done = host.call(programs.BIN / "airflow-restore", str(changed))
    assert done.returncode == 1 and f"it has no file {name}; nothing was changed" in done.stderr
    assert kept_files(host) == dict.fromkeys(KEPT, "new")


def test_a_part_with_holes_does_not_fill_the_disk(
    upgraded: tuple[Host, Path], tmp_path: Path
) -> None:
    """A small backup could have one of any size."""
    host, backup = upgraded
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = "SHA256SUMS MAC about database.dump host.tar"
    for command in (
        f"tar -xf {backup}",
        "truncate --size 100M database.dump",
        f"tar --sparse --hole-detection=raw -cf {tmp_path}/changed.tar {parts}",
    ):
        subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    done = host.call(programs.BIN / "airflow-restore", "--trust", str(tmp_path / "changed.tar"))
    assert done.returncode == 1 and "it has no file database.dump" in done.stderr


@pytest.mark.parametrize("name", ["rights.sql", "statements.sql", "../outside", "/etc/outside"])
def test_other_members_of_a_backup_stay_in_it(
    name: str, upgraded: tuple[Host, Path], tmp_path: Path
) -> None:
    host, backup = upgraded
    theirs = tmp_path / "theirs"
    theirs.write_text("as before")
    with tarfile.open(backup, "a") as changed:
        changed.addfile(link(name, theirs))
    done = host.call(programs.BIN / "airflow-restore", str(backup))
    assert (done.returncode, theirs.read_text()) == (0, "as before")


def test_a_mark_is_a_command_whatever_the_name_of_the_backup(
    upgraded: tuple[Host, Path], tmp_path: Path
) -> None:
    host, backup = upgraded
    named = tmp_path / "it's one; reboot.tar"
    named.write_bytes(backup.read_bytes())
    copy = f"cp {host.root}{layout.RESTORE_MARK} {tmp_path}/mark 2>/dev/null"
    (tmp_path / "bin/psql").write_text(f"#!/bin/sh\nhere={tmp_path}\n{copy}\n{PROGRAMS['psql']}\n")
    assert host.call(programs.BIN / "airflow-restore", str(named)).returncode == 0
    assert shlex.split((tmp_path / "mark").read_text()) == ["airflow-restore", str(named)]


RECIPIENT = "age1" + "q" * 58
# Stands in for age: it inverts each byte, if the key is right.
AGE = r"""
for word; do last=$word; done
case "$1 $2" in
"--encrypt --recipient") test "$3" = RECIPIENT || exit 1 ;;
"--decrypt --identity") grep -qx right "$3" || { echo no identity matched >&2; exit 1; } ;;
*) exit 2 ;;
esac
test "$4" = --output || exit 2
python3 -c 'import sys; b = open(sys.argv[1], "rb").read(); \
sys.stdout.buffer.write(bytes(255 - each for each in b))' "$last" >"$5"
"""


def test_a_backup_can_be_encrypted_to_a_public_key(tmp_path: Path) -> None:
    host = Host(tmp_path, kept=3, recipient=RECIPIENT)
    (tmp_path / "bin/age").write_text("#!/bin/sh\n" + AGE.replace("RECIPIENT", RECIPIENT))
    (tmp_path / "bin/age").chmod(0o755)
    (host.root / NOT_KEPT[6]).unlink()
    (host.root / "var/lib/airflow-deploy/migrated").write_text(f"{OLD} 12 34\n")
    host.older(*(f"airflow-2026010{day}T023000Z" for day in (1, 2, 3)))
    made = host.run()
    assert made.name.endswith("Z.tar.age") and not tarfile.is_tarfile(made)
    assert len(list(host.backups.iterdir())) == 3, "encrypted ones count as well"
    # A thief who has the host already needs no backup that stays on it.
    assert tarfile.is_tarfile(host.run("before-upgrade-pending"))
    keys = {name: tmp_path / name for name in ("right", "wrong")}
    for name, path in keys.items():
        path.write_text(f"{name}\n")
    restore = programs.BIN / "airflow-restore"
    done = host.call(restore, str(made))
    assert done.returncode == 1 and "name the file with the private key" in done.stderr
    done = host.call(restore, "--identity", str(keys["wrong"]), str(made))
    assert done.returncode == 1 and "age can't decrypt" in done.stderr
    assert not (host.folder / "systemctl").exists()
    (host.root / "etc/airflow/secrets/jwt-secret").write_text("new")
    done = host.call(restore, "--identity", str(keys["right"]), str(made))
    assert (done.returncode, done.stderr) == (0, "")
    assert kept_files(host)["etc/airflow/secrets/jwt-secret"] == "etc/airflow/secrets/jwt-secret"


def test_backups_without_the_key_push_out_none_with_it(tmp_path: Path) -> None:
    host = Host(tmp_path, kept=1)
    made = host.run()
    key = host.root / "etc/airflow/secrets/fernet-key"
    for empty in (True, False):
        if empty:
            key.write_text("")
        else:
            key.unlink()
        done = host.call(programs.BIN / "airflow-backup")
        assert done.returncode == 1 and "fernet-key is lost or empty" in done.stderr
        assert [*host.backups.iterdir()] == [made]
    # A restore makes one of what it replaces.
    assert host.run("before-restore-pending").exists()


# A restore that is cut off


def test_a_deploy_removes_what_a_killed_restore_has_left(tmp_path: Path, plan: fake.Plan) -> None:
    operation = plan.named("Remove the folders of killed restores")
    (left := tmp_path / "restore.a1B2c3").mkdir()
    (left / "fernet-key").touch()
    (tmp_path / "restore-unfinished").touch()
    for command in operation.commands:
        subprocess.run(["sh", "-c", command.replace(layout.STATE, str(tmp_path))], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["restore-unfinished"]


@pytest.mark.parametrize("program", ["airflow-restore", "airflow-rollback"])
def test_a_restore_that_is_cut_off_is_marked_and_goes_on(
    program: str, upgraded: tuple[Host, Path]
) -> None:
    host, backup = upgraded
    mark = host.root / "var/lib/airflow-deploy/restore-unfinished"
    # Killed when the databases have changed their names, as the keys should follow.
    (host.folder / "bin/tar").write_text(
        f"#!/bin/sh\ncase $* in *'-C {host.root} -xf'*) kill -9 $PPID; exit 1 ;; esac\n"
        'exec /usr/bin/tar "$@"\n'
    )
    (host.folder / "bin/tar").chmod(0o755)
    rollback = program == "airflow-rollback"
    command = host.rollback if rollback else programs.BIN / program
    words = [] if rollback else [str(backup)]
    assert host.call(command, *words).returncode == -9
    assert mark.read_text() == " ".join([program, *words]) + "\n"
    assert list((host.root / "var/lib/airflow-deploy").glob("restore.*")), "secrets lie there"
    assert "start airflow.target" not in (host.folder / "systemctl").read_text()
    (host.folder / "bin/tar").unlink()
    done = host.call(command, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert kept_files(host)["etc/airflow/secrets/jwt-secret"] == "etc/airflow/secrets/jwt-secret"
    assert not list((host.root / "var/lib/airflow-deploy").glob("restore*"))


def test_services_do_not_start_while_a_restore_is_cut_off() -> None:
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        text = (fake.FILES / f"etc/systemd/system/airflow-{name}.service").read_text()
        conditions = text.partition("[Service]")[0].splitlines()
        assert f"AssertPathExists=!{layout.RESTORE_MARK}" in conditions
        follows_pods = name in ("scheduler", "triggerer")
        assert (f"AssertPathExists=!{layout.TOKEN_MARK}" in conditions) is follows_pods


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
