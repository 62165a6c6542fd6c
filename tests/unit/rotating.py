"""A folder that stands for a host on which airflow-rotate runs, for the tests of rotations."""

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
from tempfile import TemporaryDirectory

from tasks import layout
from tasks.airflow import services
from tasks.layout import JWT_DROP_IN, JWT_KEYS, KUBECONFIG, SECRETS
from tasks.settings import HostSettings
from tests.unit import fake, programs

FILES = ["fernet-key", "jwt-secret", "api-secret-key", "admin-password"]
NAMES = [*FILES, "cluster-token"]
UNITS = [service.unit for service in services.SERVICES]
PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
HEALTHY = json.dumps({name: {"status": "healthy"} for name in PARTS}, separators=(",", ":"))

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
        case $unit in *.*) ;; *) unit=$unit.service ;; esac
        echo $unit >> $here/restarted
        case $unit in *.socket) sha256sum /bin/sh > {layout.STARTED_WITH}/$unit && continue ;; esac
        sha256sum {SECRETS}/*-key {SECRETS}/jwt-secret {KUBECONFIG} > {layout.STARTED_WITH}/$unit
        cp {SECRETS}/fernet-key $here/$unit.fernet
        cp {SECRETS}/jwt-secret $here/$unit.jwt
        test $unit = airflow-api-server.service || continue
        cp {SECRETS}/jwt-secret $here/accepted
        test -e {JWT_DROP_IN} || continue
        cp {JWT_KEYS} $here/accepted
        sha256sum {JWT_KEYS} >> {layout.STARTED_WITH}/$unit
    done ;;
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
    # The stored form of a connection differs with the key.
    "git-connections.sh": f"""
test "$2" = git_token || exit 2
now="git_token|$(cat $here/data)"
case $1 in
check) test "$now" = "$(cat {layout.GIT_CONNECTIONS})" ;;
apply) echo "$now" > {layout.GIT_CONNECTIONS} ;;
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
# Runs the command for each line of its input, in a process of its own that begins with the modules
# of the command: loading them takes longer than most of its steps. With KEPT it keeps such a copy
# before each change that the command makes to a file by itself.
RUNNER = """
import base64, functools, hashlib, json, os, pathlib, runpy, shlex, shutil, signal, subprocess, sys
import time, typing

CHANGES = {"os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}
copies = 0

def keep(event, arguments):
    global kept, copies
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if not kept or not (event in CHANGES or writes):
        return
    folder, kept = kept, ""  # copying changes files, too
    copies += 1
    shutil.copytree(here, f"{folder}/{event}-{copies}")
    kept = folder

for line in sys.stdin:
    if not (child := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
here, sys.argv, environment, said = json.loads(line)
signal.alarm(120)
os.setsid()
os.environ.clear()
os.environ.update(environment)
os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
for number, name in enumerate(said, 1):
    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
if kept := environment["KEPT"]:
    sys.addaudithook(keep)
os.geteuid = lambda: 0
time.sleep = lambda seconds: subprocess.run(["sleep", str(seconds)])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@cache
def runner() -> tuple[subprocess.Popen[str], TemporaryDirectory[str]]:
    """The process that runs the command, and a folder for the output; both go with us."""
    command = [sys.executable, "-B", "-c", RUNNER]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True), TemporaryDirectory()


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

    def __init__(self, tmp_path: Path, settings: HostSettings | None = None) -> None:
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
        self.env = programs.host_env(self.folder, settings or fake.settings(), values)
        environment = {"PATH": "/usr/bin:/bin", "KEPT": ""}
        units = [*UNITS, layout.WEB_SOCKET]
        subprocess.run([self.bin / "systemctl", "restart", *units], env=environment, check=True)
        (self.folder / "restarted").unlink()
        subprocess.run(
            [self.lib / "git-connections.sh", "apply", "git_token"], env=environment, check=True
        )

    def place(self, path: str) -> Path:
        """A path of the host, in the folder."""
        return Path(f"{self.folder}/root{path}")

    @property
    def data(self) -> Path:
        """The key that the database is encrypted with."""
        return self.folder / "data"

    def program(self, name: str, script: str) -> None:
        """Add a program."""
        path = (self.lib if (self.lib / name).exists() else self.bin) / name
        script = re.sub(r"(?<![\w.])/(etc|run|var)/", rf"{self.folder}/root/\1/", script)
        path.write_text(f"#!/bin/sh\nhere={self.folder}\n{KEEP}{script}")
        path.chmod(0o755)

    def rotate(self, *names: str, kept: Path | str = "") -> subprocess.CompletedProcess[str]:
        """Run the command; before each of its changes and programs, keep a copy of the host."""
        environment = {"PATH": f"{self.bin}:/usr/bin:/bin", "KEPT": str(kept)}
        environment["AIRFLOW_SURROUNDINGS"] = "the test's"  # it counts the steps of one process
        process, folder = runner()
        assert process.stdin and process.stdout
        words = [str(self.bin / "airflow-rotate"), *names]
        said = [Path(folder.name, name) for name in ("output", "errors")]
        call = (str(self.folder), words, {**environment, **self.env}, [*map(str, said)])
        process.stdin.write(json.dumps(call) + "\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        return subprocess.CompletedProcess(words, status, *(each.read_text() for each in said))

    def become(self, copy: Path) -> None:
        """Be as a copy."""
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)

    def has_recorded_connections(self) -> bool:
        """Whether the next deploy finds the connections of git repositories as they were."""
        (line,) = self.place(layout.GIT_CONNECTIONS).read_text().splitlines()
        return line == f"git_token|{self.data.read_text().strip()}"

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
