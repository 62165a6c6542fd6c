"""A deploy that is killed heals with the next one, wherever it was killed."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from tasks.layout import COMMAND_LOCK, ROOT
from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, dag
from tests.e2e.servers import GitServer
from tests.e2e.support import Airflow, as_data, deploy
from tests.sandbox import inventory
from tests.sandbox.machine import Machine

BUSY_WITHIN = 60


class Kill(NamedTuple):
    """When the deploy is killed."""

    operation: str  # what it is doing: how the operation's name begins
    after: float | None = None  # seconds since its command began; none: before it begins
    whole: bool = False  # whether the command on the host is killed too; otherwise it continues


# In the order of the deploy, so that each still has its work to do.
KILLS = (
    Kill("System | Create /opt/airflow/plugins"),
    Kill("System | Install the deploy's programs"),
    Kill("Airflow | Install Airflow", after=3, whole=True),
    Kill("minikube | Install kubectl"),
    Kill("nginx | Create the host's certificate", after=0.1, whole=True),
    Kill("PostgreSQL | Make PostgreSQL load its configuration", after=0.3),
    Kill("Worker image | Plugins | Copy the plugins for the worker image"),
    Kill("Worker image | Build the worker image", after=8, whole=True),
    Kill("minikube | Wait for minikube", after=3),
    Kill("Kubernetes | Apply Airflow's objects in the cluster", after=0.3, whole=True),
    Kill("Worker image | Load the worker image into the cluster", after=1, whole=True),
    Kill("Upgrade | Link the command airflow-rollback to airflow-restore"),
    Kill("Upgrade | Stop Airflow and back it up", after=1),
    Kill("Airflow | Write airflow.cfg"),
    Kill("Airflow | Migrate the database's schema", after=2, whole=True),
    Kill("Objects | Make connections, variables and pools", after=1, whole=True),
    Kill("Users | Make users and roles as the inventory has them", after=1, whole=True),
    Kill("DAGs | Copy the DAGs"),
    Kill("Services | Run airflow-api-server", after=2),
    Kill("Services | Run airflow-scheduler"),
    Kill("Upgrade | Keep the backup from before the upgrade"),
    Kill("Metrics | Run prometheus-postgres-exporter"),
    Kill("Timers | Start the timers"),
    Kill("Smoke test | Run a tiny DAG as a pod", after=3),
    Kill("Git | Ask the git repositories for their DAGs", after=0.5, whole=True),
    Kill("Clean-up | Remove the programs of an earlier version"),
)


class Console:
    """A shell on the machine that answers at once, since it is connected already."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, command: str) -> str:
        """The line that a command prints."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def console(machine: Machine) -> Iterator[Console]:
    """A shell on the machine."""
    command = ["ssh", "-F", str(machine.ssh_config), machine.name, "sh"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Console(process)
        assert process.stdin
        process.stdin.close()


class Progress(threading.Thread):
    """Reads what a deploy says; knows the operation that it is at."""

    def __init__(self, said: IO[str]) -> None:
        super().__init__(daemon=True)
        self._said = said
        self._changed = threading.Condition()
        self._operations = [""]
        self._ended = False
        self.lines: list[str] = []

    def run(self) -> None:
        """Read to the end."""
        for line in self._said:
            self.lines.append(line)
            if found := re.search("Starting operation: (.*)", line):
                self._set(found[1])
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _set(self, operation: str) -> None:
        with self._changed:
            self._operations.append(operation)
            self._changed.notify_all()

    def is_at(self, operation: str) -> bool:
        """Whether it is at this operation now."""
        with self._changed:
            return self._operations[-1].startswith(operation) and not self._ended

    def reaches(self, operation: str) -> bool:
        """Wait for the operation, which may be over by now; false if the deploy ends without it."""

        def reached() -> bool:
            return any(each.startswith(operation) for each in self._operations)

        with self._changed:
            self._changed.wait_for(lambda: self._ended or reached(), timeout=600)
            return reached() and not self._ended


@contextmanager
def started(settings: dict[str, object]) -> Iterator[tuple[subprocess.Popen[str], Progress]]:
    """A deploy that runs; it is killed at the end."""
    data = [f"--data={key}={as_data(value)}" for key, value in settings.items()]
    command = ["pyinfra", "--yes", *data, "inventories/sandbox.py", "deploy.py"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr
        progress = Progress(run.stderr)
        progress.start()
        try:
            yield run, progress
        finally:
            run.kill()


def killed(kill: Kill, settings: dict[str, object], console: Console) -> bool:
    """Run the deploy and kill it at the moment; returns whether it got there."""
    with started(settings) as (run, progress):
        if not progress.reaches(kill.operation):
            print(f"A deploy has not come to {kill.operation}:", *progress.lines[-30:], sep="")
            return False
        if kill.after is not None:
            # The lock is held by the operation's own command.
            waiting = f"while flock -n {COMMAND_LOCK} true; do sleep 0.01; done"
            if console.run(
                f"timeout {BUSY_WITHIN} sh -c '{waiting}' && echo busy || echo idle"
            ) != ("busy"):
                print(f"No command of {kill.operation} was seen")
                return False
            time.sleep(kill.after)
            if not progress.is_at(kill.operation):
                print(f"{kill.operation} took less than {kill.after} s", *progress.lines[-9:])
                return False
        run.kill()
        if kill.whole:
            # All processes of the command have inherited the lock.
            console.run(
                f"for fd in /proc/[0-9]*/fd/8; do"
                f' test "$(readlink $fd)" != {COMMAND_LOCK} ||'
                " kill -KILL $(echo $fd | cut -d/ -f3);"
                " done 2>/dev/null; echo done"
            )
    return True


def test_every_module_of_the_deploy_is_among_them() -> None:
    names: set[str] = set()
    for path in (ROOT / "tasks").rglob("*.py"):
        if path.parent.name != "remove":
            names |= set(re.findall(r'^@deploy\("(.*)"\)', path.read_text(), re.MULTILINE))
    assert len(names) > 10
    # The first one asks an existing PostgreSQL, and changes nothing. A host that is alone has none
    # of the others.
    of_other_hosts = {"Database", "Address", "Rotate", "Serving host"}
    killed_in = {part for kill in KILLS for part in kill.operation.split(" | ")[:-1]}
    assert killed_in == names - of_other_hosts


def test_killed_in_each_module(
    machine: Machine, airflow: Airflow, shell: Shell, console: Console, tmp_path: Path
) -> None:
    git = GitServer(machine).start()
    git.create("killed")
    git.push("killed", {"e2e_killed_git.py": dag("e2e_killed_git", "two")})
    dags, plugins = tmp_path / "dags", tmp_path / "plugins"
    for folder in (dags, plugins):
        folder.mkdir()
    (dags / "e2e_killed.py").write_text(dag("e2e_killed", "one"))
    (plugins / "e2e_shared.py").write_text("WORDS = 'killed'\n")
    start_args = inventory.settings(machine)["minikube_extra_args"]
    settings: dict[str, object] = {
        "web_host_names": ["killed.example.com"],
        "postgres_config": {"max_locks_per_transaction": "65"},  # needs a restart
        "airflow_extra_requirements": ["cowsay==6.1"],
        "minikube_extra_args": [*start_args, "--extra-config=kubelet.max-pods=95"],
        "kubernetes_extra_namespaces": ["e2e-killed"],
        "dags_local_folder": str(dags),
        "plugins_source": "image",
        "plugins_local_folder": str(plugins),
        "web_users": {"kim": {"roles": ["Viewer"]}},
        "dags_git_bundles": {
            "killed": {"url": git.http_url("killed"), "connection": "git"},
        },
        "airflow_connections": {
            "git": {"conn_type": "git", "login": git.user, "password": git.token},
        },
        "airflow_config": {"core": {"hide_sensitive_var_conn_fields": "True"}},
        "metrics_port": 9187,
        "retention_failed_pod_minutes": 30,
    }
    shell("rm -r /opt/airflow/plugins; cd /usr/local/bin; rm kubectl airflow-backup airflow-rotate")
    assert "--max-pods" not in shell("tr '\\0' ' ' < /proc/$(pgrep -ox kubelet)/cmdline")
    assert [kill for kill in KILLS if not killed(kill, settings, console)] == []
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    assert deploy(settings=settings).changed == []
    runs = Runs(airflow)
    runs.whole("e2e_killed", "one")
    runs.whole("e2e_killed_git", "two")
    # The running processes know the arguments, though they ran before.
    assert "--max-pods=95" in shell("tr '\\0' ' ' < /proc/$(pgrep -ox kubelet)/cmdline").split()
