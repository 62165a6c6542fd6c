"""Helpers of the end-to-end tests: run the deploy, ask Airflow, wait with a bound."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.cookiejar import CookieJar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tasks import layout
from tasks.layout import ROOT
from tests.sandbox import common, offline
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

if TYPE_CHECKING:
    from kubernetes import client  # takes longer to load than all the rest

SEEN_SECONDS = 30  # until a new DAG file is known, as README.md promises
START_SECONDS = 30  # for a dag-processor that was just started, on a busy machine
# Seconds that a wait may be longer where another story has the same machine.
SLACK = 60


REMOVAL = ("tasks.remove.airflow",)  # what `deploy` runs instead of deploy.py


def evidence_folder() -> Path | None:
    """The folder for the evidence of a run of the tests, if it is wanted."""
    chosen = os.environ.get("AIRFLOW_EVIDENCE")
    return Path(chosen) if chosen else None


@dataclass(frozen=True)
class Deploy:
    """How a run of pyinfra ended."""

    code: int
    # Thousands of characters, which would hide the reason that an assertion shows.
    output: str = field(repr=False)
    json: dict[str, Any] = field(repr=False)

    @property
    def changed(self) -> list[str]:
        """Names of the operations that changed something."""
        return [each["name"] for each in self.json["results"]["operations"] if each["success"]]

    @property
    def planned(self) -> list[str]:
        """Names of the operations that a dry run would let change something."""
        return [
            each["name"]
            for each in self.json["plan"]
            if each["hosts_with_change"] or each["hosts_with_conditional_change"]
        ]


def deploy(
    *arguments: str,
    inventory: str = "inventories/sandbox.py",
    settings: dict[str, object] | None = None,
    what: Sequence[str] = ("deploy.py",),
) -> Deploy:
    """Run the deploy with settings that differ from the inventory's; a dry run with --dry.

    Or another operation that pyinfra should run.
    """
    data = [f"--data={key}={as_data(value)}" for key, value in (settings or {}).items()]
    apply = [] if "--dry" in arguments else ["--yes"]
    command = ["pyinfra", "--json", *apply, *arguments, *data, inventory, *what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if folder := evidence_folder():
        _keep_output(folder, command, done)
    lines = done.stdout.splitlines()
    return Deploy(
        done.returncode,
        done.stdout + done.stderr,
        json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {},
    )


def _keep_output(
    folder: Path, command: Sequence[str], done: subprocess.CompletedProcess[str]
) -> None:
    """Keep what a deploy said; of its settings only the names, since values may be secret."""
    number = len(list(folder.glob("deploy-*.txt"))) + 1
    words = [word.partition("=")[0] if word.startswith("--data=") else word for word in command]
    text = f"{shlex.join(words)}\n{done.stderr}\n{done.stdout}\nended with {done.returncode}\n"
    (folder / f"deploy-{number:02}.txt").write_text(text)


def as_data(value: object) -> str:
    """A setting's value as pyinfra's option --data takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def killed_at(
    operation: str,
    settings: Mapping[str, object] | None = None,
    what: Sequence[str] = ("deploy.py",),
) -> bool:
    """Run the deploy, or another one, and kill it as it begins an operation; returns if it did."""
    data = [f"--data={key}={as_data(value)}" for key, value in (settings or {}).items()]
    command = ["pyinfra", "--yes", *data, "inventories/sandbox.py", *what]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr
        for line in run.stderr:
            if f"Starting operation: {operation}" in line:
                run.kill()
                return True
    return False


class Airflow:
    """Airflow's REST API, as a person who logged in."""

    def __init__(
        self, url: str, user: str, password: Callable[[], str], authority: Callable[[], str]
    ) -> None:
        self.url = url
        self._user, self._password, self._authority = user, password, authority
        self.token = ""

    @cached_property
    def trusting(self) -> ssl.SSLContext:
        """Trusts the machine's authority, and nobody else."""
        return ssl.create_default_context(cadata=self._authority())

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Ask; returns the parsed answer. Raises HTTPError for an answer that says no."""
        if self.token:
            try:
                return self._send(method, f"/api/v2{path}", body)
            except urllib.error.HTTPError as error:
                if error.code != 403:  # its answer to a token that a replaced key has signed
                    raise
        self.token = self.log_in(self._password())
        return self._send(method, f"/api/v2{path}", body)

    def log_in(self, password: str) -> str:
        """A token for the user with this password."""
        login = {"username": self._user, "password": password}
        return str(self._send("POST", "/auth/token", login)["access_token"])

    def _send(self, method: str, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        # A machine that boots beside another one has its two processors full for half a minute.
        with urllib.request.urlopen(request, timeout=60, context=self.trusting) as answer:
            return json.loads(answer.read() or "null")  # what was deleted has no content

    def health(self) -> dict[str, str | None]:
        """State of each component; empty if there is no answer."""
        try:
            answer = self._send("GET", "/api/v2/monitor/health", None)
        except OSError:
            return {}
        return {name: (component or {}).get("status") for name, component in answer.items()}

    def trigger(self, dag: str) -> str:
        """Wait until the DAG is known, start a run, and return its id."""

        def triggered() -> str | None:
            try:
                self.request("PATCH", f"/dags/{dag}", {"is_paused": False})
                run = self.request("POST", f"/dags/{dag}/dagRuns", {"logical_date": None})
            except urllib.error.HTTPError as error:
                if error.code != 404:  # until the DAG was read, it has no version to run
                    raise
                return None
            return str(run["dag_run_id"])

        seconds = SEEN_SECONDS + START_SECONDS
        return str(wait_for(triggered, seconds, f"the DAG {dag} is known"))

    def run_state(self, dag: str, run: str) -> str:
        """State of a run."""
        return str(self.request("GET", f"/dags/{dag}/dagRuns/{quote(run)}")["state"])

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The run's task instances."""
        path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances"
        return list(self.request("GET", path)["task_instances"])

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """A task's log as the web page shows it; empty as long as there is no such try."""
        path = (
            f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}/logs/{attempt}"
            "?full_content=true"
        )
        try:
            content = self.request("GET", path)["content"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return ""
        # The page shows an exception below the line that tells of it.
        return "\n".join(
            str(line.get("event", line)) + f" {line.get('error_detail', '')}" for line in content
        )


def log_in(machine: Machine, user: str = "admin", below: str = "") -> Airflow:
    """The REST API of a machine, as the first user, whose password is there.

    It is below the machine's address: a port, a path.
    """

    def reading(path: str) -> Callable[[], str]:
        return lambda: machines.run(machine, f"cat {path}").stdout.strip()

    password, authority = reading("/etc/airflow/secrets/admin-password"), reading(layout.AUTHORITY)
    return Airflow(f"https://{machine.address}{below}", user, password, authority)


class Browser:
    """A session of a user who logged in to the web page."""

    def __init__(self, airflow: Airflow, password: str, user: str = "admin") -> None:
        url = self.url = airflow.url
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies),
            urllib.request.HTTPSHandler(context=airflow.trusting),
        )
        # Over TLS the login page requires a Referer.
        self.opener.addheaders = [("Referer", f"{url}/auth/login/")]
        page = self.get("/auth/login/")
        (token,) = set(re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', page))
        form = {"username": user, "password": password, "csrf_token": token}
        self.get("/auth/login/", urllib.parse.urlencode(form).encode())

    def get(self, path: str, body: bytes | None = None) -> str:
        """A page's text."""
        with self.opener.open(self.url + path, body, timeout=20) as answer:
            return str(answer.read().decode())

    @property
    def is_known(self) -> bool:
        """Whether the login's own pages know the session."""
        return 'name="password"' not in self.get("/auth/users/userinfo/")


def write_file(machine: Machine, path: str, text: str, mode: str = "644") -> None:
    """Write a file of root on a machine."""
    install = f"install -D --mode={mode} /dev/stdin {shlex.quote(path)}"
    machines.run(machine, install, stdin=text.encode())


DAGS = Path(__file__).parent / "dags"

OLDER_FOLDER = "/srv/offline-older"  # on the machine: offline.OLDER
BETWEEN_FOLDER = "/srv/offline-between"  # the current version, and the one on the way to it


def bring_offline_folders(machine: Machine) -> None:
    """Put the folders for an upgrade of Kubernetes onto the machine."""
    common.run(
        ["cp", "--recursive", offline.ensure(offline.OLDER), f"{machine.root}{OLDER_FOLDER}"]
    )
    offline.with_between(Path(f"{machine.root}{BETWEEN_FOLDER}"))


UV = "/srv/uv"  # on the machine


def bring_uv(machine: Machine) -> None:
    """Put the program uv onto a machine that has no Airflow."""
    program = shutil.which("uv")
    if program is None:
        raise FileNotFoundError("there is no uv: run the tests with ./tests/run")
    shutil.copy(program, f"{machine.root}{UV}")


def bring_dag(name: str, shell: Callable[[str], str], text: str | None = None) -> None:
    """Put a DAG file onto the machine: with this text, or as dags/ has it."""
    if text is None:
        text = DAGS.joinpath(f"{name}.py").read_text()
    shell(f"cat > /opt/airflow/dags/{name}.py <<'EOF'\n{text}\nEOF")


def properties(shell: Callable[[str], str], unit: str, *names: str) -> list[str]:
    """Values of properties of a systemd unit, in this order."""
    shown = shell(f"systemctl show {unit} --property={','.join(names)}")
    values = dict(line.split("=", 1) for line in shown.splitlines())
    return [values[name] for name in names]


def killed_by_liveness(shell: Callable[[str], str], since: float) -> dict[str, list[float]]:
    """Units that were found to hang since a time.time(), each with the time of each kill."""
    said = shell(f"journalctl -q -u airflow-liveness -o short-unix --since=@{since:.6f}")
    kills: dict[str, list[float]] = {}
    for at, unit in re.findall(r"(?m)^(\S+) .*?: (airflow-\S+) hangs: ", said):
        kills.setdefault(unit, []).append(float(at))
    return kills


def pods_of(cluster: client.CoreV1Api, dag: str) -> set[str]:
    """Names of the DAG's pods that exist now."""
    pods = cluster.list_namespaced_pod("airflow", label_selector=f"dag_id={dag}").items
    return {pod.metadata.name for pod in pods}


def host_tests(
    machine: Machine, what: str = "tests/host", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the tests of a person's own host against the machine."""
    return subprocess.run(
        ["pytest", what, f"--hosts=ssh://{machine.name}", f"--ssh-config={machine.ssh_config}"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


_INVENTORY = """\
import sys

sys.path.insert(0, {root!r})
from tests.sandbox import inventory

name, data = inventory.host({name!r})
hosts = [(name, {{key: data[key] for key in data if key not in {left_out!r}}} | {settings!r})]
"""


def inventory_with(
    settings: Mapping[str, object], folder: Path, left_out: Sequence[str] = ()
) -> str:
    """Path of an inventory for the machine under test, with these settings, made in a folder.

    What is left out of the sandbox's own settings has its default again.
    """
    path = folder / "inventory.py"
    path.touch(mode=0o600)
    path.write_text(
        _INVENTORY.format(
            root=str(ROOT),
            name=machine_name(),
            settings=dict(settings),
            left_out=tuple(left_out),
        )
    )
    return str(path)


def machine_name() -> str:
    """Name of the machine under test."""
    return os.environ.get("AIRFLOW_SANDBOX", "airflow-sandbox")
