"""Two hosts from one inventory: deployed, changed one after the other, killed, removed and added.

The inventory's third host, the machine of the story, has their database and their cluster. Git, the
registry and S3 are there too.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from tasks.layout import ADDRESS_CONFIG, CLUSTER_KUBECONFIG, DATABASE_LOGINS, ROOT
from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, dag
from tests.e2e.servers import GitServer, RegistryServer, S3Server
from tests.e2e.support import (
    REMOVAL,
    SLACK,
    Airflow,
    Deploy,
    deploy,
    log_in,
    properties,
    write_file,
)
from tests.sandbox import common
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

NAMESPACE = "several"
BUCKET = "several-logs"
DAG = "e2e_several"
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")
OWNER = "/usr/local/lib/airflow/owner.sh psql -XAtqc"
HEALTH = "/usr/local/lib/airflow/health.sh"
# Within this time another scheduler adopts the tasks of a dead one: see tasks/airflow/config.py.
ADOPTED = 90
# Of the test with a dead machine: tasks that write down each of their tries.
LEDGER, LATER = "e2e_ledger", "e2e_ledger_later"
RUNNING, QUEUED = 20, 20  # the second one is of tasks that have no pod, since a quota is full
COUNTS = {LEDGER: 30, LATER: RUNNING + QUEUED - 30}
LEDGER_DAG = """
import time
import uuid

from airflow.sdk import Variable, dag, get_current_context, task


@dag(dag_id="{name}", schedule=None, catchup=False, max_active_tasks=40)
def ledger():
    @task
    def write(number):
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        attempt = get_current_context()["ti"].try_number
        key = f"ledger/{name}/{{number}}/{{attempt}}/{{uuid.uuid4()}}"
        S3Hook("logs").load_string("", f"{{key}}/begin", "{bucket}")
        end = time.monotonic() + 1200
        # While the api-servers are away, it looks as if there were no variable.
        while Variable.get("{held}", default="wait") != "go":
            if time.monotonic() > end:
                raise TimeoutError("nobody let it end: the test was too slow")
            time.sleep(5)
        S3Hook("logs").load_string("", f"{{key}}/end", "{bucket}")

    write.expand(number=list(range({count})))


ledger()
"""
SEEN_PODS = "/root/e2e-ledger-pods"
PACKAGE = "cowsay==6.1"
# Instead of ten minutes, so that a rotation of the jwt-secret does not take as long.
SHORT = {
    "airflow_config": {
        "execution_api": {"jwt_expiration_time": "45"},
        "scheduler": {"task_queued_timeout": "45"},
    }
}
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
    server.push("team", {f"{DAG}.py": dag(DAG, "hello")})
    return server


@pytest.fixture(scope="module")
def s3(machine: Machine) -> S3Server:
    """A store of logs."""
    server = S3Server(machine).start()
    server.create_bucket(BUCKET)
    return server


@pytest.fixture(scope="module")
def settings(machine: Machine, git: GitServer, s3: S3Server) -> dict[str, Any]:
    """The settings of both hosts."""
    registry = RegistryServer(machine).start()
    token = {"conn_type": "git", "login": git.user, "password": git.token}
    bundle = {"url": git.http_url("team"), "connection": "git_token", "refresh_seconds": 5}
    return {
        "kubernetes_namespace": NAMESPACE,
        "worker_registry": {
            "repository": f"{registry.address}/team/airflow-worker",
            "username": registry.user,
            "password": registry.password,
            "ca_certificate": registry.ca_certificate,
        },
        "dags_source": "git",
        "dags_git_bundles": {"team": bundle},
        "logs_store": "s3",
        "logs_s3": {"folder": f"s3://{BUCKET}/tasks", "connection": "logs"},
        "airflow_connections": {"logs": s3.connection, "git_token": token},
        "airflow_examples": False,
    }


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


def adopted(host: Machine, job_host: str) -> bool:
    """Whether no unfinished task belongs to a scheduler of a host."""
    question = (
        "select count(*) from task_instance t join job j on j.id = t.queued_by_job_id"
        f" where t.state in ('queued', 'running') and split_part(j.hostname, '.', 1) = '{job_host}'"
    )
    return shell_of(host)(f'{OWNER} "{question}"') == "0"


def test_both_hosts_run_one_airflow(airflow: Airflow, hosts: tuple[Machine, Machine]) -> None:
    keys = "cd /etc/airflow && sha256sum secrets/*-* tls/ca-key.pem tls/pods-ca.pem airflow.cfg"
    files = f"{keys} pod_template.yaml dags.env"
    assert shell_of(hosts[0])(files) == shell_of(hosts[1])(files)
    question = "select count(distinct hostname) from job where job_type = 'SchedulerJob'"
    assert shell_of(hosts[0])(f"{OWNER} \"{question} and state = 'running'\"") == "2"
    active_one(hosts)  # and no other one
    for host in hosts:
        assert is_healthy(host)
        assert "a task ran as a pod" in shell_of(host)("airflow-smoke-test")
        timers = shell_of(host)("systemctl list-timers --all 'airflow-*' --no-legend")
        assert ("airflow-backup" in timers) is (host is hosts[0])


def test_the_next_deploy_changes_nothing(airflow: Airflow, deployed: Deploying) -> None:
    run = deployed()
    assert run.code == 0, run.output
    assert run.changed == []


# The cluster


def test_airflows_hosts_have_the_administrators_login_for_root_alone(
    airflow: Airflow, hosts: tuple[Machine, Machine], machine: Machine
) -> None:
    shown = f"stat -c '%U %a' {CLUSTER_KUBECONFIG}; sha256sum {CLUSTER_KUBECONFIG}"
    said = [shell_of(host)(shown) for host in hosts]
    assert said[0] == said[1] and said[0].startswith("root 600\n")
    backup = shell_of(hosts[0])("airflow-backup login").splitlines()[-1]
    assert "cluster.kubeconfig" not in shell_of(hosts[0])(f"tar -tf {backup}")
    for host in hosts:
        there = "ls -d /var/lib/minikube /usr/local/bin/minikube 2>/dev/null || true"
        assert shell_of(host)(there) == ""


def test_the_clusters_certificates_are_renewed_without_airflow(
    airflow: Airflow, machine: Machine, shell: Shell
) -> None:
    timers = shell("systemctl list-timers 'airflow-*' --no-legend")
    assert "airflow-cluster-certificates.timer" in timers and len(timers.splitlines()) == 1
    shell("systemctl start airflow-cluster-certificates.service")
    assert shell("systemctl is-failed airflow-cluster-certificates.service || true") == "inactive"


def test_a_deploy_cures_a_stopped_cluster(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying, shell: Shell
) -> None:
    shell("systemctl stop minikube")
    shell_of(hosts[1])(f"rm {CLUSTER_KUBECONFIG}")
    run = deployed()
    assert run.code == 0, run.output
    assert "minikube | Wait for minikube (1 to 2 minutes the first time)" in run.changed
    assert deployed().changed == []
    Runs(airflow).whole(DAG, "hello")


# The database


def asked(host: Machine, database: Machine, sslmode: str) -> str:
    """How the database answers a host that may have the owner's login."""
    login = DATABASE_LOGINS["airflow"]
    place = f"host={database.address} dbname=airflow user=airflow sslmode={sslmode}"
    ask = f"PGPASSFILE={login} psql -XAtqwc 'select current_user' '{place}' 2>&1"
    return machines.run(host, ask, check=False).stdout.strip()


def test_the_database_lets_in_airflows_hosts_alone(
    airflow: Airflow, hosts: tuple[Machine, Machine], database: Machine, machine: Machine
) -> None:
    for host in hosts:
        trusted = "verify-full sslrootcert=/etc/airflow/database-authority.pem"
        assert asked(host, database, trusted) == "airflow"
        said = asked(host, database, "disable")
        assert f'no pg_hba.conf entry for host "{host.address}"' in said and "no encryption" in said
    assert f'no pg_hba.conf entry for host "{machine.address}"' in asked(
        machine, database, "require"
    )
    # A host that only serves others has nothing of Airflow.
    there = shell_of(database)
    assert there("ls -d /opt/airflow /usr/local/bin/airflow* /etc/nginx 2>/dev/null || true") == ""
    assert there("getent passwd airflow || true") == ""


def test_a_deploy_cures_a_stopped_database_and_replaces_a_lost_password(
    airflow: Airflow, hosts: tuple[Machine, Machine], database: Machine, deployed: Deploying
) -> None:
    there, login = shell_of(database), DATABASE_LOGINS["airflow-dags"]
    before = there(f"cat {login}")
    there(f"systemctl stop postgresql@*; rm {login}")
    run = deployed()
    assert run.code == 0, run.output
    after = there(f"cat {login}")
    assert after != before and after.rpartition(":")[2] not in run.output
    for host in hosts:
        assert shell_of(host)(f"cat {login}") == after
        wait_for(lambda host=host: is_healthy(host), 60 + SLACK, "it is healthy")  # type: ignore[misc]
    assert deployed().changed == []
    Runs(airflow).whole(DAG, "hello")


def test_settings_of_the_database_are_those_of_its_host(
    airflow: Airflow, database: Machine, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    run = deployed(postgres_config={"work_mem": "9MB"})
    assert run.code != 0
    assert f"postgres_config is a setting of {database.name}, which has the database" in run.output
    given = {"of_database": {"postgres_config": {"work_mem": "9MB"}, "metrics_port": 9187}}
    run = deployed(**given)
    assert run.code == 0, run.output
    assert shell_of(hosts[1])(f"{OWNER} 'show work_mem'") == "9MB"
    figures = shell_of(hosts[0])(f"curl -fsS http://{database.address}:9187/metrics")
    assert "pg_up 1" in figures and "airflow_" in figures
    assert deployed(**given).changed == []
    run = deployed()
    assert run.code == 0, run.output


def test_a_backup_of_the_database_comes_back(
    airflow: Airflow, hosts: tuple[Machine, Machine]
) -> None:
    first, second = (shell_of(host) for host in hosts)
    first("airflow variables set e2e_kept before")
    made = first("airflow-backup kept").splitlines()[-1]
    first("airflow variables set e2e_kept after")
    second("systemctl stop airflow.target")
    wait_for(
        lambda: machines.run(hosts[0], f"airflow-restore {made}", check=False).returncode == 0,
        180 + SLACK,
        "the other host's services count as stopped",
        every=10,
    )
    assert first("airflow variables get e2e_kept") == "before"
    second("systemctl start airflow.target")
    for host in hosts:
        wait_for(lambda host=host: is_healthy(host), 120 + SLACK, "it is healthy")  # type: ignore[misc]


def test_pods_know_both_hosts_by_one_name(
    airflow: Airflow, hosts: tuple[Machine, Machine], shell: Shell
) -> None:
    template = shell_of(hosts[0])("cat /etc/airflow/pod_template.yaml")
    assert f"https://airflow-api.{NAMESPACE}-control.svc:8081/execution/" in template
    slices = shell(f"kubectl -n {NAMESPACE}-control get endpointslices -o yaml")
    assert all(host.address in slices for host in hosts)


def test_another_host_reads_dags_when_the_active_one_stops(
    airflow: Airflow, hosts: tuple[Machine, Machine], git: GitServer
) -> None:
    active = active_one(hosts)
    (other,) = (host for host in hosts if host is not active)
    shell_of(active)("systemctl stop airflow-dag-processor")
    wait_for(lambda: reads_dags(other), 30 + SLACK, "the other one works")
    git.push("team", {f"{DAG}_later.py": dag(f"{DAG}_later", "later")})
    shell_of(active)("systemctl start airflow-dag-processor")
    Runs(airflow).whole(f"{DAG}_later", "later")
    assert active_one(hosts) is other
    # One that hangs is found by its own host.
    hanging = dag_processor(other)
    shell_of(other)(f"kill -STOP {hanging}")
    wait_for(
        lambda: {dag_processor(host) for host in hosts} - {"", hanging},
        90 + SLACK,
        "another one works, on whichever host",
        every=2,
    )


# Tasks go on


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


@pytest.mark.parametrize("place", [0, 1])
def test_a_dead_scheduler_costs_no_task(
    place: int, airflow: Airflow, hosts: tuple[Machine, Machine]
) -> None:
    dead = hosts[place]
    with waiting_runs(airflow):
        shell_of(dead)(
            "systemctl kill --signal=KILL airflow-scheduler; systemctl stop airflow-scheduler"
        )
        wait_for(lambda: adopted(hosts[0], dead.name), ADOPTED + SLACK, "its tasks are adopted")
    shell_of(dead)("systemctl start airflow-scheduler")
    wait_for(lambda: is_healthy(dead), 60 + SLACK, "it is healthy again")


def test_a_dead_api_server_costs_no_task(airflow: Airflow, hosts: tuple[Machine, Machine]) -> None:
    """nginx of its host passes the requests of tasks on."""
    second = shell_of(hosts[1])
    with waiting_runs(airflow):
        second("systemctl stop airflow-api-server")
        url = f"https://{hosts[1].name}:8081/execution/health"
        options = f"--cacert /etc/airflow/tls/pods-ca.pem --resolve {hosts[1].name}:8081:127.0.0.1"
        assert "healthy" in second(f"curl -fsS {options} {url}")
        time.sleep(30)  # some heartbeats
    second("systemctl start airflow-api-server")


@contextmanager
def pods_counted(shell: Shell) -> Iterator[None]:
    """At most so many pods run, and each pod of the ledger is written down on the story's machine,
    however short it lives."""
    columns = ",".join(
        f"{name}:.metadata.{path}"
        for name, path in (
            ("NAME", "name"),
            ("DAG", "labels.dag_id"),
            ("NUMBER", "labels.map_index"),
            ("TRY", "labels.try_number"),
        )
    )
    get = (
        f"kubectl --kubeconfig=/root/.kube/config -n {NAMESPACE} get pods --watch --no-headers"
        f" -l 'dag_id in ({LEDGER},{LATER})' -o custom-columns={columns}"
    )
    shell(f"kubectl -n {NAMESPACE} create quota e2e --hard=pods={RUNNING}")
    shell(
        "systemd-run --quiet --collect --unit=e2e-pods --property=Restart=always"
        f" --property=StandardOutput=append:{SEEN_PODS} {get}"
    )
    try:
        yield
    finally:
        shell(f"systemctl stop e2e-pods; kubectl -n {NAMESPACE} delete quota e2e")


def ledger_states(host: Machine, of: str = "") -> dict[str, int]:
    """How many tasks of the ledger are in each state, of all schedulers or of one host's."""
    whose = f"and split_part(j.hostname, '.', 1) = '{of}'" if of else ""
    question = (
        "select coalesce(t.state, 'none') || ' ' || count(*) from task_instance t"
        " left join job j on j.id = t.queued_by_job_id"
        f" where t.dag_id like '{LEDGER}%' {whose} group by t.state"
    )
    lines = shell_of(host)(f'{OWNER} "{question}"').splitlines()
    return {state: int(count) for state, count in map(str.split, lines)}


def executions(s3: S3Server, what: str) -> dict[tuple[str, str], list[str]]:
    """The tries of each task that have begun, or ended, with the name that each has chosen."""
    found: dict[tuple[str, str], list[str]] = {}
    for key in s3.objects(BUCKET):
        folder, _, rest = key.partition("/")
        if folder == "ledger" and rest.endswith(f"/{what}"):
            name, number, execution = rest.removesuffix(f"/{what}").split("/", 2)
            found.setdefault((name, number), []).append(execution)
    return found


def test_a_dead_machine_costs_no_task(
    airflow: Airflow,
    hosts: tuple[Machine, Machine],
    deployed: Deploying,
    git: GitServer,
    s3: S3Server,
    shell: Shell,
) -> None:
    first, second = hosts
    every = {(name, str(number)) for name, count in COUNTS.items() for number in range(count)}
    texts = {
        f"{name}.py": LEDGER_DAG.format(name=name, count=count, held=LEDGER, bucket=BUCKET)
        for name, count in COUNTS.items()
    }
    git.push("team", texts)
    waiting = Runs(airflow)
    waiting.hold(LEDGER)
    with pods_counted(shell):
        # All that runs is the second host's, and some of what waits.
        shell_of(first)("systemctl stop airflow-scheduler")
        begun = {LEDGER: airflow.trigger(LEDGER)}
        wait_for(
            lambda: (
                len(executions(s3, "begin")) == RUNNING
                and ledger_states(first, second.name)
                == {"running": RUNNING, "queued": COUNTS[LEDGER] - RUNNING}
            ),
            300 + SLACK,
            f"{RUNNING} tasks run",
            every=3,
        )
        shell_of(first)("systemctl start airflow-scheduler")
        begun[LATER] = airflow.trigger(LATER)
        wait_for(
            lambda: ledger_states(first) == {"running": RUNNING, "queued": QUEUED},
            120 + SLACK,
            f"{QUEUED} tasks wait",
            every=2,
        )
        ran = executions(s3, "begin")
        dead = time.monotonic()
        common.run(["podman", "kill", second.name])
        wait_for(lambda: adopted(first, second.name), ADOPTED + SLACK, "its tasks are adopted")
        print(f"adopted within {time.monotonic() - dead:.0f} s")
        wait_for(lambda: reads_dags(first), 60 + SLACK, "the living host reads DAGs")
        assert is_healthy(first)
        waiting.release(LEDGER)
        for name, identity in begun.items():
            runs.ends_well(airflow, name, identity, 600 + SLACK)
    # Each task ran once, from its begin to its end, and those that ran go on in the same try.
    begins, ends = (executions(s3, what) for what in ("begin", "end"))
    assert begins == ends and begins.keys() == every
    assert {task: len(tries) for task, tries in begins.items()} == dict.fromkeys(every, 1)
    assert ran.items() <= begins.items()
    # Each try had one pod; one that never began has none, or one that did not start.
    pods = {tuple(line.split()) for line in shell(f"cat {SEEN_PODS}").splitlines()}
    by_try = Counter((name, number, attempt) for _, name, number, attempt in pods)
    assert {*by_try.values()} == {1}, by_try
    tried = {(*task, each.split("/")[0]) for task, tries in begins.items() for each in tries}
    assert tried <= by_try.keys()
    run = deployed()
    assert run.code != 0 and "is not in this run" in run.output
    machines.create(second.name, second.release)  # starts it again
    wait_for(lambda: is_healthy(second), 120 + SLACK, "it is healthy again", every=2)
    run = deployed()
    assert run.code == 0, run.output
    assert run.changed == []


# Changes


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


def config(**options: str) -> Mapping[str, object]:
    """A setting that restarts all services."""
    return {"airflow_config": {"core": options}}


def test_a_change_restarts_one_host_after_the_other(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    first, second = hosts
    before = [started(host) for host in hosts]
    with waiting_runs(airflow), probe(hosts) as probed:
        run = deployed(**config(parallelism="17"))
        assert run.code == 0, run.output
    assert all(
        started(host)[each] > old[each]
        for host, old in zip(hosts, before, strict=True)
        for each in SERVICES
    )
    # All machines have the clock of this one.
    files = " ".join(f"/run/airflow/airflow-{each}.service" for each in SERVICES)
    times = [shell_of(host)(f"stat -c %Y {files}").split() for host in hosts]
    assert max(map(int, times[0])) <= min(map(int, times[1])), (first.name, second.name, times)
    assert probed.asked > 20 and probed.away == []
    assert deployed(**config(parallelism="17")).changed == []


def test_a_host_that_does_not_start_leaves_the_other_untouched(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    first, second = hosts
    folder = "/etc/systemd/system/airflow-scheduler.service.d"
    # The unit takes 1 for a success.
    broken = "[Service]\nExecStartPre=/bin/sh -c 'exit 3'\n"
    write_file(first, f"{folder}/99-broken.conf", broken)
    shell_of(first)("systemctl daemon-reload")
    before = started(second)
    with waiting_runs(airflow):
        run = deployed(**config(parallelism="18"))
        assert run.code != 0
        assert f"{first.name} failed: this host stays as it is" in run.output
        assert started(second) == before and is_healthy(second)
        shell_of(first)(f"rm {folder}/99-broken.conf && systemctl daemon-reload")
        run = deployed(**config(parallelism="18"))
        assert run.code == 0, run.output
    assert started(second) != before
    assert deployed(**config(parallelism="18")).changed == []
    run = deployed()  # the next tests know nothing of it
    assert run.code == 0, run.output


# One address for people

# Seconds until a host is found to fail, and another one has the address: a silent page is given two
# times 3 s, with 2 s between two looks, and the word of a host is waited for for 3.6 s.
MOVED = 14


@pytest.fixture(scope="module")
def shared(hosts: tuple[Machine, Machine]) -> Machine:
    """The first host, reached by an address that no machine has: theirs count from below."""
    return replace(hosts[0], address=str(ip_address(hosts[0].address) + 128))


def holders(hosts: Iterable[Machine], address: str) -> list[Machine]:
    """Those hosts that have an address."""
    ask = f"ip -o -4 address show to {address}/32"
    return [host for host in hosts if shell_of(host)(ask)]


def holder_and_other(hosts: tuple[Machine, Machine], shared: Machine) -> tuple[Machine, Machine]:
    """The host that has the address, and the other one."""
    (holder,) = holders(hosts, shared.address)
    (other,) = (host for host in hosts if host is not holder)
    return holder, other


def moves(hosts: tuple[Machine, Machine], shared: Machine, fails: Callable[[], object]) -> None:
    """The address moves, and the page with it, when something fails where it is."""
    _, other = holder_and_other(hosts, shared)
    with probe([shared]) as probed:
        (page,) = probed.airflows
        fails()
        began = time.monotonic()
        wait_for(lambda: holders([other], shared.address), MOVED + SLACK, "the address moves")
        wait_for(page.health, 30 + SLACK, "the page answers")
        print(f"after {time.monotonic() - began:.0f} s the page answers elsewhere")
    print(f"{len(probed.away)} of {probed.asked} requests failed")


def is_well_again(hosts: tuple[Machine, Machine], shared: Machine, host: Machine) -> None:
    """A host that failed is healthy, and does not take the address back."""
    (other,) = holders(hosts, shared.address)
    assert other is not host
    wait_for(lambda: is_healthy(host), 120 + SLACK, "it is healthy again", every=2)
    time.sleep(10)  # two good looks at the page, and the time that a host waits for another's word
    assert holders(hosts, shared.address) == [other]


def test_one_host_has_the_address_for_people(
    airflow: Airflow,
    hosts: tuple[Machine, Machine],
    shared: Machine,
    deployed: Deploying,
    shell: Shell,
) -> None:
    given = {"web_virtual_address": shared.address}
    run = deployed(**given)
    assert run.code == 0, run.output
    vars(airflow).pop("trusting", None)  # the authority is for one more address
    holder_and_other(hosts, shared)
    page = log_in(shared)
    assert set(page.health().values()) == {"healthy"}
    # Nothing takes it for the address of the host that has it.
    assert deployed(**given).changed == []
    slices = shell(f"kubectl -n {NAMESPACE}-control get endpointslices -o yaml")
    assert shared.address not in slices and all(host.address in slices for host in hosts)
    Runs(page).whole(DAG, "hello")


@pytest.mark.parametrize("unit", ["nginx", "airflow-api-server"])
def test_the_address_leaves_a_page_that_does_not_answer(
    unit: str, airflow: Airflow, hosts: tuple[Machine, Machine], shared: Machine
) -> None:
    holder, _ = holder_and_other(hosts, shared)
    moves(hosts, shared, lambda: shell_of(holder)(f"systemctl stop {unit}"))
    shell_of(holder)(f"systemctl start {unit}")
    is_well_again(hosts, shared, holder)


def test_a_change_moves_the_address_before_a_page_stops(
    airflow: Airflow, hosts: tuple[Machine, Machine], shared: Machine, deployed: Deploying
) -> None:
    before = [started(host) for host in hosts]
    with waiting_runs(airflow), probe([shared]) as probed:
        run = deployed(**config(parallelism="19"), web_virtual_address=shared.address)
        assert run.code == 0, run.output
    for host, old in zip(hosts, before, strict=True):
        assert started(host)["api-server"] > old["api-server"]
    # A request may be under way at each of two moves; the start of an api-server takes 20 of them.
    assert probed.asked > 20 and len(probed.away) <= 4, probed.away
    holder_and_other(hosts, shared)


def test_the_address_leaves_a_dead_machine(
    airflow: Airflow, hosts: tuple[Machine, Machine], shared: Machine, deployed: Deploying
) -> None:
    holder, _ = holder_and_other(hosts, shared)
    moves(hosts, shared, lambda: common.run(["podman", "kill", holder.name]))
    machines.create(holder.name, holder.release)  # starts it again
    is_well_again(hosts, shared, holder)
    given = {**config(parallelism="19"), "web_virtual_address": shared.address}
    assert deployed(**given).changed == []


def test_without_the_setting_no_host_has_the_address(
    airflow: Airflow, hosts: tuple[Machine, Machine], shared: Machine, deployed: Deploying
) -> None:
    run = deployed()
    assert run.code == 0, run.output
    assert holders(hosts, shared.address) == []
    for host in hosts:
        there = shell_of(host)
        assert there("systemctl is-active keepalived || true") == "inactive"
        assert there(f"ls {ADDRESS_CONFIG} 2>/dev/null || true") == ""
        assert is_healthy(host)
    assert deployed().changed == []


# Secrets


def secrets_of(host: Machine) -> dict[str, str]:
    """The checksum of each secret that can be replaced."""
    files = "fernet-key jwt-secret api-secret-key admin-password ../kubeconfig.d/token"
    lines = shell_of(host)(f"cd /etc/airflow/secrets && sha256sum {files}").splitlines()
    found = {name: checksum for checksum, name in map(str.split, lines)}
    return {"cluster-token": found.pop("../kubeconfig.d/token"), **found}


@pytest.mark.parametrize(
    "kind", ["fernet-key", "api-secret-key", "cluster-token", "admin-password", "jwt-secret"]
)
def test_a_secret_of_all_hosts_is_replaced(
    kind: str,
    airflow: Airflow,
    hosts: tuple[Machine, Machine],
    deployed: Deploying,
    git: GitServer,
) -> None:
    short = SHORT if kind == "jwt-secret" else {}
    if short:
        run = deployed(**short)
        assert run.code == 0, run.output
    before = [secrets_of(host) for host in hosts]
    with waiting_runs(airflow), probe(hosts) as probed:
        run = deployed(what=("tasks.day2.rotate.secret", kind), **short)
        assert run.code == 0, run.output
    after = [secrets_of(host) for host in hosts]
    for old, new in zip(before, after, strict=True):
        assert {name for name in old if old[name] != new[name]} == {kind}
    # Each host has a token of its own.
    for each in (*before, *after):
        del each["cluster-token"]
    assert before[0] == before[1] and after[0] == after[1]
    assert probed.away == []
    left = "ls /etc/airflow/secrets | grep -e next -e jwt-keys || true"
    for host in hosts:
        assert is_healthy(host) and shell_of(host)(left) == ""
        # The database is encrypted with the new fernet key.
        assert git.token in shell_of(host)("airflow connections get git_token -o json")
    assert deployed(**short).changed == []
    said = shell_of(hosts[1])(f"! airflow-rotate {kind} 2>&1")
    assert f"tasks.day2.rotate.secret {kind}" in said
    if short:
        run = deployed()
        assert run.code == 0, run.output


# Upgrades


def venv(host: Machine) -> str:
    """The environment that a host's processes have loaded."""
    found = shell_of(host)(
        "for unit in api-server scheduler triggerer; do"
        " sed -n 's|.* /opt/airflow/venvs/\\([^/]*\\)/.*|\\1|p'"
        " /proc/$(systemctl show -P MainPID airflow-$unit)/maps; done | sort -u"
    )
    (one,) = found.splitlines()
    return one


def test_other_packages_come_to_one_host_after_the_other(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    before = [started(host) for host in hosts]
    old = venv(hosts[0])
    with waiting_runs(airflow), probe(hosts) as probed:
        run = deployed(airflow_extra_requirements=[PACKAGE])
        assert run.code == 0, run.output
    assert venv(hosts[0]) == venv(hosts[1]) != old
    assert all(
        started(host)[each] > then[each]
        for host, then in zip(hosts, before, strict=True)
        for each in SERVICES
    )
    # All hosts at once would have been away for about a minute.
    assert probed.asked > 20 and probed.away == []
    shell_of(hosts[0])("ls /var/backups/airflow/before-upgrade-2*.tar")
    assert deployed(airflow_extra_requirements=[PACKAGE]).changed == []


def test_the_first_host_goes_back_and_the_other_one_follows(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    first, second = map(shell_of, hosts)
    upgraded = venv(hosts[0])
    said = first("! airflow-rollback 2>&1")
    stop = "sudo systemctl disable --now airflow.target"
    assert f"run {stop} there" in said and "nothing was changed" in said
    assert "run airflow-rollback there" in second("! airflow-rollback 2>&1")
    second(stop.removeprefix("sudo "))
    # At first the other host's last sign of life is younger than a minute.
    wait_for(
        lambda: "Then deploy to all hosts" in first("airflow-rollback 2>&1 || true"),
        60 + 60 + SLACK,
        "the first host goes back",
        every=10,
    )
    assert venv(hosts[0]) != upgraded
    Runs(airflow).release(DAG)  # the backup is of the time when it was held
    Runs(airflow).whole(DAG, "hello")
    run = deployed()
    assert run.code == 0, run.output
    assert venv(hosts[0]) == venv(hosts[1]) != upgraded
    assert second("systemctl is-enabled airflow.target") == "enabled"
    assert all(is_healthy(host) for host in hosts)
    assert deployed().changed == []


# Hosts leave and join


def test_a_host_that_leaves_takes_nothing_of_the_others(
    airflow: Airflow,
    hosts: tuple[Machine, Machine],
    database: Machine,
    deployed: Deploying,
    shell: Shell,
) -> None:
    first, second = hosts
    run = deployed("--limit", second.name, what=REMOVAL)
    assert run.code == 0, run.output
    assert shell_of(second)("ls -d /etc/airflow /opt/airflow 2>/dev/null || true") == ""
    assert shell(f"kubectl get namespace {NAMESPACE} -o name") == f"namespace/{NAMESPACE}"
    Runs(airflow).whole(DAG, "hello")
    # Pods find the one that is left by the same name.
    alone = {"names": (first.name,)}
    run = deployed(**alone)
    assert run.code == 0, run.output
    assert deployed(**alone).changed == []
    Runs(airflow).whole(DAG, "hello")
    assert is_healthy(first)
    # The database knows only the host that is left.
    rules = shell_of(database)("cat /etc/postgresql/*/main/pg_hba.conf")
    assert f" {first.address}/32 " in rules and second.address not in rules


def test_a_host_that_joins_gets_what_it_needs(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    # It can't be the first one, since its keys would be new.
    run = deployed(names=(hosts[1].name, hosts[0].name))
    assert run.code != 0 and "Of several hosts, name one first that has it" in run.output
    with waiting_runs(airflow):
        run = deployed()
        assert run.code == 0, run.output
    assert deployed().changed == []
    for host in hosts:
        assert is_healthy(host)
        assert "a task ran as a pod" in shell_of(host)("airflow-smoke-test")


def test_the_removal_of_all_takes_what_they_share(
    airflow: Airflow, deployed: Deploying, database: Machine
) -> None:
    there = shell_of(database)
    databases = "cd /; runuser -u postgres -- psql -XAtqc 'select datname from pg_database'"
    run = deployed("--limit", database.name, what=REMOVAL)
    assert run.code != 0 and "the removal would take it from there" in run.output
    assert "airflow" in there(databases).splitlines()
    run = deployed(what=REMOVAL)
    assert run.code == 0, run.output
    folders = (
        "/etc/airflow /var/lib/airflow-deploy /usr/local/lib/airflow /etc/postgresql/*/main"
        " /var/lib/minikube /etc/kubernetes /root/.minikube /root/.kube /usr/local/bin/kubectl"
        " /etc/systemd/system/airflow* /etc/systemd/system/minikube.service"
    )
    assert there(f"ls -d {folders} 2>/dev/null || true") == ""
    assert there("pgrep -x 'kubelet|etcd|kube-apiserver' || true") == ""
    listed = "dpkg-query -Wf '${db:Status-Status} ${Package}\\n' 'postgresql-[0-9]*' 2>/dev/null"
    assert there(f"{listed} | grep ^installed || true") == ""
