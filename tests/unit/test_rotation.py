"""The command airflow-rotate, run for real, with programs that stand in for those of a host."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tasks import layout
from tasks.airflow import services
from tasks.layout import JWT_DROP_IN, JWT_KEYS, KUBECONFIG, SECRETS
from tests.unit import fake, programs

FILES = ["fernet-key", "jwt-secret", "api-secret-key", "admin-password"]
NAMES = [*FILES, "cluster-token"]
UNITS = [service.unit for service in services.SERVICES]
HEALTHY = json.dumps(
    {
        name: {"status": "healthy"}
        for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
    },
    separators=(",", ":"),
)

# The effects of programs on the files; $here is the folder that stands for the host.
PROGRAMS = {
    "chgrp": "",
    "curl": f"echo '{HEALTHY}'",
    "sleep": "touch $here/waited",
    "mv": '/usr/bin/mv "$@"',
    "rm": '/usr/bin/rm "$@"',
    "systemctl": f"""
case $1 in
is-active) echo active ;;
restart)
    shift
    for unit; do
        unit=${{unit%.service}}.service
        echo $unit >> $here/restarted
        sha256sum {SECRETS}/*-key {SECRETS}/jwt-secret {KUBECONFIG} > {layout.STARTED_WITH}/$unit
        cp {SECRETS}/fernet-key $here/$unit.fernet
    done
    if test -e {JWT_DROP_IN}; then cp {JWT_KEYS} $here/accepted
    else cp {SECRETS}/jwt-secret $here/accepted; fi ;;
esac""",
    # Encrypts with the first key, if it can decrypt with one of them.
    "run": f"""
case "$*" in
*rotate-fernet-key)
    keys=$(cut -d= -f2- {SECRETS}/fernet-key)
    case ",$keys," in *",$(cat $here/data),"*) ;; *) exit 1 ;; esac
    echo "${{keys%%,*}}" > $here/data ;;
*get-value*) echo 600.0 ;;
*reset-password*) read one; read two; test $one = $two && echo $one > $here/password ;;
esac""",
    "airflow-smoke-test": "",
    "kubectl": """
case "$*" in
*delete*) echo $(($(cat $here/token) + 1)) > $here/token ;;
*metadata.uid*) cat $here/token ;;
*"config view"*) echo '{"clusters": [{"cluster": {"server": "https://192.0.2.7:6443"}}]}' ;;
*"create token"*)
    echo '{"status": {"expirationTimestamp": "", "token": "'"$(cat $here/token)"'"}}' ;;
esac""",
}


# Begins each of them: keeps a copy of the host as the command would leave it if it were killed now.
KEEP = """[ -z "$KEPT" ] || cp -a $here "$KEPT/${0##*/}-$$"
"""
# Runs the command, and keeps such a copy before each change that it makes to a file by itself.
KEEPING = """
import os, runpy, shutil, subprocess, sys, time
here, kept, copies = sys.argv[1], os.environ["KEPT"], 0
CHANGES = {"os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}

def keep(event, arguments):
    global kept, copies
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if not kept or not (event in CHANGES or writes):
        return
    folder, kept = kept, ""  # copying changes files, too
    copies += 1
    shutil.copytree(here, f"{folder}/{event}-{copies}")
    kept = folder

sys.addaudithook(keep)
os.geteuid = lambda: 0
time.sleep = lambda seconds: subprocess.run(["sleep", str(seconds)])
sys.argv[:2] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_programs_know_all_services() -> None:
    assert ("airflow.target", *(service.unit for service in services.SERVICES)) == layout.UNITS


@cache
def secrets() -> dict[str, str]:
    """The files of secrets, as a first deploy makes them."""
    make = programs.LIB / "secrets.sh"
    env = {"AIRFLOW_HOST_ENV": "/dev/null"}
    return {
        name: subprocess.check_output([make, "new", name], text=True, env=os.environ | env)
        for name in FILES
    }


class Host:
    """A folder that stands for a host on which airflow-rotate runs, and one with its programs."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.bin = tmp_path / "host", tmp_path / "usr/local/bin"
        self.lib = tmp_path / "usr/local/lib/airflow"
        self.secrets, self.kubeconfig = self.place(SECRETS), self.place(KUBECONFIG)
        for path in (self.secrets, self.place(layout.STARTED_WITH), self.bin, self.lib):
            path.mkdir(parents=True)
        for name in (JWT_DROP_IN, layout.STATE + "/some", layout.LOCKS):
            self.place(name).parent.parent.mkdir(parents=True, exist_ok=True)
        self.place(layout.STATE).mkdir()
        for name, text in secrets().items():
            (self.secrets / name).write_text(text)
            (self.secrets / name).chmod(0o600)
        self.data.write_text(self.value("fernet-key") + "\n")
        (self.folder / "password").write_text(self.value("admin-password") + "\n")
        (self.folder / "token").write_text("1\n")
        self.kubeconfig.write_text("token 1\n")
        self.kubeconfig.chmod(0o600)
        objects = fake.plan(fake.settings()).uploads[layout.KUBERNETES_OBJECTS]
        self.place(layout.KUBERNETES_OBJECTS).write_text(objects)
        shutil.copytree(programs.LIB, self.lib, dirs_exist_ok=True)
        shutil.copy(programs.BIN / "airflow-rotate", self.bin)
        for name, script in PROGRAMS.items():
            self.program(name, script)
        values = {"KUBECTL": self.bin / "kubectl"}
        self.env = programs.host_env(self.folder, fake.settings(), values)
        environment = {"PATH": "/usr/bin:/bin", "KEPT": ""}
        subprocess.run([self.bin / "systemctl", "restart", *UNITS], env=environment, check=True)
        (self.folder / "restarted").unlink()

    def place(self, path: str) -> Path:
        """A path of the host, in the folder."""
        return Path(f"{self.folder}/root{path}")

    @property
    def data(self) -> Path:
        """The key that the database is encrypted with."""
        return self.folder / "data"

    def program(self, name: str, script: str) -> None:
        """Add a program."""
        path = (self.lib if name == "run" else self.bin) / name
        script = re.sub(r"(?<![\w.])/(etc|run|var)/", rf"{self.folder}/root/\1/", script)
        path.write_text(f"#!/bin/sh\nhere={self.folder}\n{KEEP}{script}")
        path.chmod(0o755)

    def rotate(self, *names: str, kept: Path | str = "") -> subprocess.CompletedProcess[str]:
        """Run the command; before each of its changes and programs, keep a copy of the host."""
        environment = {"PATH": f"{self.bin}:/usr/bin:/bin", "KEPT": str(kept)}
        environment["AIRFLOW_SURROUNDINGS"] = "the test's"  # it counts the steps of one process
        program = self.bin / "airflow-rotate"
        return subprocess.run(
            [sys.executable, "-B", "-c", KEEPING, self.folder, program, *names],
            env={**environment, **self.env},
            text=True,
            capture_output=True,
            timeout=20,
            start_new_session=True,
            check=False,
        )

    def become(self, copy: Path) -> None:
        """Be as a copy."""
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)

    def value(self, name: str) -> str:
        """A secret's value."""
        if name == "cluster-token":
            return self.kubeconfig.read_text()
        text = (self.secrets / name).read_text().split()[0]
        return text.partition("=")[2] or text

    def restarted(self) -> set[str]:
        """Names of the services that were."""
        path = self.folder / "restarted"
        names = path.read_text().split() if path.exists() else []
        return {name.removeprefix("airflow-").removesuffix(".service") for name in names}

    def is_sound(self, old: dict[str, str]) -> None:
        """Nothing is lost, whatever is under way."""
        for path in self.folder.glob("*.fernet"):
            assert self.data.read_text().strip() in path.read_text()
        assert self.data.read_text().strip() in (self.secrets / "fernet-key").read_text()
        if not (self.folder / "waited").exists():
            accepted = (self.folder / "accepted").read_text()
            jwk = base64.urlsafe_b64encode(old["jwt-secret"].encode()).decode().rstrip("=")
            assert old["jwt-secret"] in accepted or jwk in accepted
        files = [path for path in self.secrets.iterdir() if path.is_file()]
        passwords = [path.read_text() for path in files if "password" in path.name]
        assert (self.folder / "password").read_text() in passwords


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One with secrets of its own."""
    return Host(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_replaced_and_the_others_stay(name: str, host: Host) -> None:
    before = {each: host.value(each) for each in NAMES}
    done = host.rotate(name)
    assert (done.returncode, done.stderr) == (0, "")
    after = {each: host.value(each) for each in NAMES}
    assert {each for each in NAMES if before[each] != after[each]} == {name}
    for value in {*before.values(), *after.values()}:
        assert value not in done.stdout
    assert {path.name for path in host.secrets.iterdir()} == set(FILES)
    modes = {path.name: path.stat().st_mode & 0o777 for path in host.secrets.iterdir()}
    assert modes == dict.fromkeys(FILES, 0o600)
    # The scheduler's group may read the kubeconfig.
    kubeconfig = host.kubeconfig.stat().st_mode & 0o777
    assert kubeconfig == (0o640 if name == "cluster-token" else 0o600)


def test_the_database_is_encrypted_with_the_new_key(host: Host) -> None:
    host.rotate("fernet-key")
    assert host.data.read_text().strip() == host.value("fernet-key")
    assert "," not in host.value("fernet-key")


def content(folder: Path) -> tuple[tuple[str, int, bytes], ...]:
    """Each path of a copy with its mode and content, but for the test's own record of restarts."""
    return tuple(
        (
            str(path.relative_to(folder)),
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
        if path.name != "restarted"
    )


@pytest.mark.parametrize("name", NAMES)
def test_killed_anywhere_it_loses_nothing_and_goes_on(name: str, tmp_path: Path) -> None:
    host, kept = Host(tmp_path), tmp_path / "kept"
    kept.mkdir()
    old = {each: host.value(each) for each in NAMES}
    assert host.rotate(name, kept=kept).returncode == 0
    # A kill before a program that only reads leaves the same host as one before the next program.
    different = {content(copy): copy for copy in kept.iterdir()}
    assert len(different) > 3
    for copy in different.values():
        host.become(copy)
        host.is_sound(old)
        done = host.rotate(name)
        assert (done.returncode, done.stderr) == (0, ""), copy.name
        host.is_sound(old)
        assert host.value(name) != old[name] and "," not in host.value("fernet-key")
        assert {path.name for path in host.secrets.iterdir()} == set(FILES), copy.name
        assert not host.place(JWT_DROP_IN).parent.exists()


def test_data_that_can_not_be_read_keeps_both_keys(host: Host) -> None:
    old = host.value("fernet-key")
    host.data.write_text("another\n")
    done = host.rotate("fernet-key")
    assert done.returncode == 1 and "run airflow-rotate fernet-key again" in done.stderr
    assert host.value("fernet-key").endswith(f",{old}")


def test_two_jwt_secrets_are_accepted_by_the_names_that_tokens_give(host: Host) -> None:
    seen = []
    for _ in range(2):
        old = host.value("jwt-secret")
        host.program("sleep", f"cp {JWT_KEYS} $here/seen")
        host.rotate("jwt-secret")
        keys = json.loads((host.folder / "seen").read_text())["keys"]
        values = [base64.urlsafe_b64decode(key["k"] + "==").decode() for key in keys]
        assert values == [old, host.value("jwt-secret")]
        seen.append([key["kid"] for key in keys])
    assert seen[0][0] == "not-used" and seen[0][1] == seen[1][0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name one or more of"),
        (("fernet-key", "fernet"), "there is no secret fernet,"),
    ],
)
def test_nothing_is_changed_for_names_that_are_none(
    arguments: tuple[str, ...], says: str, host: Host
) -> None:
    before = {each: host.value(each) for each in NAMES}
    done = host.rotate(*arguments)
    assert done.returncode == 1 and says in done.stderr and "nothing was changed" in done.stderr
    assert before == {each: host.value(each) for each in NAMES}


def test_airflow_that_was_stopped_is_not_started(host: Host) -> None:
    host.program("systemctl", "echo inactive")
    done = host.rotate("api-secret-key")
    assert done.returncode == 1 and "Airflow is stopped" in done.stderr
