"""What the stories of several hosts share: their machines, their settings, their deploys.

Two hosts are one Airflow. The third one, the machine of the story, has their database and their
cluster. Git, the registry and S3 are there too.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tasks.layout import CLUSTER_KUBECONFIG, DATABASE_LOGINS, ROOT
from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.runs import Runs, dag
from tests.e2e.servers import GitServer, RegistryServer, S3Server
from tests.e2e.support import SLACK, Airflow, Deploy, deploy, log_in, properties
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

NAMESPACE = "several"
BUCKET = "several-logs"
DAG = "e2e_several"
BEAT = "e2e_beat"  # a DAG of one task, of which a run begins every five seconds
BEAT_DAG = f"""
from airflow.sdk import dag, task


@dag(dag_id="{BEAT}", schedule=None, catchup=False, max_active_runs=64)
def beat():
    @task(retries=0)
    def once():
        print("it runs")

    once()


beat()
"""
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")
OWNER = "/usr/local/lib/airflow/owner.sh psql -XAtqc"
HEALTH = "/usr/local/lib/airflow/health.py"
INVENTORY = """\
import sys

sys.path.insert(0, {root!r})
from tests.sandbox import inventory

airflow = [
    (name, inventory.host(name)[1] | {settings!r}) for name in {names!r}
]
database = cluster = [
    (name, inventory.host(name)[1] | {of_database!r}) for name in {database!r}
]
"""

# Everything that the hosts share


@pytest.fixture(scope="module")
def database(machine: Machine) -> Machine:
    """The machine that gets the database and the cluster."""
    return machine


@pytest.fixture(scope="module")
def hosts(machine: Machine) -> Iterator[tuple[Machine, Machine]]:
    """Two bare machines."""
    first, second = (
        machines.create(f"{machine.name}-{name}", machine.release) for name in ("one", "two")
    )
    yield first, second
    for each in (first, second):
        machines.remove(each.name)


@pytest.fixture(scope="module")
def git(machine: Machine) -> GitServer:
    """A git server with the DAGs."""
    server = GitServer(machine).start()
    server.create("team")
    server.push("team", {f"{DAG}.py": dag(DAG, "hello"), f"{BEAT}.py": BEAT_DAG})
    return server


@pytest.fixture(scope="module")
def s3(machine: Machine) -> S3Server:
    """A store of logs."""
    server = S3Server(machine).start()
    server.create_bucket(BUCKET)
    return server


@pytest.fixture(scope="module")
def own_settings() -> dict[str, Any]:
    """The settings that only one story has."""
    return {}


@pytest.fixture(scope="module")
def settings(
    machine: Machine, git: GitServer, s3: S3Server, own_settings: dict[str, Any]
) -> dict[str, Any]:
    """The settings of both hosts."""
    registry = RegistryServer(machine).start()
    names = {
        "registry.example.com": registry.address,
        "https://git.example.com/dags.git": git.http_url("team"),
        "s3://my-bucket": f"s3://{BUCKET}",
        "eu-central-1": s3.region,
    }
    login = {"S3_ACCESS_KEY": s3.access_key, "S3_SECRET_KEY": s3.secret_key}
    given = example("several_hosts", names, environ=login)
    # Only one of the stories has an address for people, and a name of its own none.
    del given["web_virtual_address"], given["web_base_url"]
    # Servers of the sandbox's own, which let nobody in without a login.
    given["worker_registry"] |= {
        "username": registry.user,
        "password": registry.password,
        "ca_certificate": registry.ca_certificate,
    }
    given["dags_git_bundles"]["team"] |= {"connection": "git_token", "refresh_seconds": 5}
    connections = given["airflow_connections"]
    connections["s3_logs"]["extra"]["endpoint_url"] = s3.endpoint
    connections["git_token"] = {"conn_type": "git", "login": git.user, "password": git.token}
    return {**given, "kubernetes_namespace": NAMESPACE, "airflow_examples": False, **own_settings}


# The deploy, and the hosts


def shell_of(host: Machine) -> Shell:
    """Runs a shell command on a host."""
    return lambda command: machines.run(host, command).stdout.strip()


Deploying = Callable[..., Deploy]


@pytest.fixture(scope="module")
def deployed(
    settings: dict[str, Any],
    hosts: tuple[Machine, Machine],
    database: Machine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Deploying:
    """Deploys to the hosts of an inventory, with settings that differ from those above."""
    folder = tmp_path_factory.mktemp("inventory")
    every = tuple(host.name for host in hosts)

    def deploying(
        *arguments: str,
        names: tuple[str, ...] = every,
        what: tuple[str, ...] = ("deploy.py",),
        of_database: Mapping[str, object] | None = None,
        **more: object,
    ) -> Deploy:
        path = folder / "inventory.py"
        path.touch(mode=0o600)
        path.write_text(
            INVENTORY.format(
                root=str(ROOT),
                settings=settings | more,
                names=list(names),
                of_database=of_database or {},
                database=[database.name],
            )
        )
        return deploy(*arguments, inventory=str(path), what=what)

    return deploying


@pytest.fixture(scope="module")
def airflow(deployed: Deploying, hosts: tuple[Machine, Machine], database: Machine) -> Airflow:
    """Airflow, as the first host's page shows it."""
    run = deployed()
    assert run.code == 0, run.output
    for each in DATABASE_LOGINS.values():
        password = shell_of(database)(f"cat {each}").rpartition(":")[2]
        assert len(password) > 40 and password not in run.output, "the run shows a password"
    files = ("fernet-key", "jwt-secret", "api-secret-key", "admin-password")
    shown = f"cd /etc/airflow/secrets && cat {' '.join(files)} ../tls/ca-key.pem"
    for line in shell_of(hosts[0])(shown).splitlines():
        secret = line.partition("=")[2] if line.startswith("AIRFLOW__") else line
        assert secret and secret not in run.output, "the run shows a secret"
    kubeconfig = json.loads(shell_of(hosts[0])(f"cat {CLUSTER_KUBECONFIG}"))
    key = kubeconfig["users"][0]["user"]["client-key-data"]
    assert len(key) > 100 and key not in run.output, "the run shows the cluster's key"
    return log_in(hosts[0])


def started(host: Machine) -> dict[str, int]:
    """When each of a host's services started, in its own microseconds."""
    name = "ExecMainStartTimestampMonotonic"
    return {each: int(properties(shell_of(host), f"airflow-{each}", name)[0]) for each in SERVICES}


def dag_processor(host: Machine) -> str:
    """The process of a host that reads DAGs; none if it waits for the other host's to end."""
    children = (
        "ps --no-headers -o pid,comm --ppid $(systemctl show -P MainPID airflow-dag-processor)"
    )
    return shell_of(host)(f"{children} | awk '$2 == \"airflow\" {{print $1}}'")


def reads_dags(host: Machine) -> bool:
    """Whether the dag-processor of this host is the one that works."""
    return bool(dag_processor(host))


def active_one(hosts: tuple[Machine, Machine]) -> Machine:
    """The host whose dag-processor works."""
    (found,) = wait_for(
        lambda: [host for host in hosts if reads_dags(host)], 60 + SLACK, "a dag-processor works"
    )
    return found


def is_healthy(host: Machine) -> bool:
    """Whether a host's own services are healthy."""
    return machines.run(host, f"{HEALTH} check", check=False).returncode == 0


@contextmanager
def waiting_runs(airflow: Airflow) -> Iterator[list[str]]:
    """Runs whose first task runs, and one that was just begun; in the end each task has succeeded
    with its first try."""
    waiting = Runs(airflow)
    waiting.hold(DAG)
    begun = [waiting.begin(DAG, "hello") for _ in range(2)]
    begun.append(airflow.trigger(DAG))
    try:
        yield begun
    finally:
        waiting.release(DAG)  # also for the tests that follow
    for run in begun:
        waiting.end(DAG, run, "hello")
        tries = runs.tries(airflow, DAG, run)
        assert tries == dict.fromkeys(("first", "second"), ("success", 1))
        assert airflow.log(DAG, run, "first").count("first says") == 1


class Probe(threading.Thread):
    """Asks the page of one host after the other, as a person does whose first one is away."""

    def __init__(self, airflows: list[Airflow]) -> None:
        super().__init__(daemon=True)
        self.airflows = airflows
        self.asked = 0
        self.away: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Ask until it is over."""
        while not self.over.wait(0.5):
            self.asked += 1
            if not any(self._answers(each) for each in self.airflows):
                self.away.append(time.strftime("%X"))

    def _answers(self, airflow: Airflow) -> bool:
        try:
            url = f"{airflow.url}/api/v2/version"
            with urllib.request.urlopen(url, timeout=3, context=airflow.trusting):
                return True
        except OSError:
            return False


@contextmanager
def probe(hosts: Iterable[Machine]) -> Iterator[Probe]:
    """A probe of the pages of several hosts."""
    airflows = [log_in(host) for host in hosts]
    for each in airflows:
        assert each.trusting
    running = Probe(airflows)
    running.start()
    yield running
    running.over.set()
    running.join()


class Beat(threading.Thread):
    """Begins a run every five seconds, by the first host that takes it."""

    def __init__(self, airflows: list[Airflow]) -> None:
        super().__init__(daemon=True)
        self.airflows = airflows
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Begin runs until it is over."""
        while not self.over.wait(5):
            name = f"beat-{uuid.uuid4()}"
            if any(self._takes(each, name) for each in self.airflows):
                self.begun.append(name)
            else:
                self.refused.append(time.strftime("%X"))

    def _takes(self, airflow: Airflow, name: str) -> bool:
        body = {"dag_run_id": name, "logical_date": None}
        try:
            airflow.request("POST", f"/dags/{BEAT}/dagRuns", body)
        except urllib.error.HTTPError as error:
            return error.code == 409  # a host that went away had taken it
        except OSError:
            return False
        return True


@contextmanager
def beating(hosts: tuple[Machine, Machine]) -> Iterator[Beat]:
    """A run every five seconds, none of which is refused; each succeeds with its first try."""

    def rows(question: str) -> list[list[str]]:
        of_beats = f"where dag_id = '{BEAT}' and run_id like 'beat-%'"
        said = shell_of(hosts[0])(f'{OWNER} "{question} {of_beats}"')
        return [line.split("|") for line in said.splitlines()]

    def states() -> dict[str, str]:
        found = dict(rows("select run_id, state from dag_run"))
        return {name: found[name] for name in beat.begun}

    beat = Beat([log_in(host) for host in hosts])
    beat.airflows[0].trigger(BEAT)  # waits until the DAG is known
    beat.start()
    try:
        yield beat
    finally:
        beat.over.set()
        beat.join()
    assert beat.refused == []
    wait_for(
        lambda: {*states().values()} <= {*runs.ENDED},
        600 + SLACK,
        f"{len(beat.begun)} runs end",
        every=3,
    )
    assert states() == dict.fromkeys(beat.begun, "success")
    tries = rows("select distinct task_id, state, try_number from task_instance")
    assert tries == [["once", "success", "1"]]


def config(**options: str) -> Mapping[str, object]:
    """A setting that restarts all services."""
    return {"airflow_config": {"core": options}}
