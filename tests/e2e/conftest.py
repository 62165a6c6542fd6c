"""Fixtures: the machine, Airflow on it, and its cluster; and the evidence of a test that failed."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config

from tests.e2e import runs
from tests.e2e.support import SLACK, Airflow, bring_dag, evidence_folder, log_in, machine_name
from tests.sandbox import disks
from tests.sandbox import machine as machines
from tests.sandbox.common import SandboxError
from tests.sandbox.machine import Machine
from tests.support import wait_for

Shell = Callable[[str], str]

# Each command prints one file of a failed test's evidence. None of them prints a secret.
EVIDENCE = {
    "journal": "journalctl --no-pager --boot --lines=20000",
    "units": "systemctl --no-pager --all list-units 'airflow*' minikube kubelet postgresql* nginx",
    "pods": "kubectl get pods --all-namespaces --output=wide;"
    " kubectl describe pods --namespace=airflow;"
    " kubectl get events --all-namespaces --sort-by=.lastTimestamp",
    "processes": "free -m; df -h / /tmp /run; ps -eo pid,user,stat,etimes,rss,args --sort=-rss",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort a story's modules as its package says: they build on each other."""

    def place(item: pytest.Item) -> tuple[str, int]:
        package, _, module = item.module.__name__.rpartition(".")  # type: ignore[attr-defined]
        order = getattr(importlib.import_module(package), "ORDER", ())
        return package, order.index(module) if order else 0

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write down the state of the machines when a test fails."""
    report = yield
    folder = evidence_folder()
    if report.failed and folder:
        _keep_evidence(folder / re.sub(r"[^\w.-]+", "-", item.name), str(report.longrepr))
    return report


def _keep_evidence(folder: Path, said: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure.txt").write_text(said)
    own = machine_name()
    # Some stories have others, whose names begin with it.
    for each in (own, *sorted(path.name for path in disks.folder().glob(f"{own}-*"))):
        for name, command in EVIDENCE.items():
            try:
                text = machines.run(machines.load(each), command, check=False, timeout=60).stdout
            except SandboxError as error:  # the machine itself may be what failed
                text = str(error)
            (folder / f"{each.removeprefix(own)}-{name}.txt".lstrip("-")).write_text(text)


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The machine under test; an error, not a skip, if there is none."""
    return machines.load(machine_name())


@pytest.fixture(scope="session")
def shell(machine: Machine) -> Shell:
    """Runs a shell command on the machine as root and returns what it prints."""
    return lambda command: machines.run(machine, command).stdout.strip()


@pytest.fixture(scope="session")
def airflow(machine: Machine) -> Airflow:
    """The REST API of Airflow on the machine."""
    return log_in(machine)


@pytest.fixture(scope="module")  # one of the modules replaces the token
def cluster(machine: Machine, shell: Shell) -> client.CoreV1Api:
    """The cluster as Airflow itself may see it."""
    text = shell("cat /etc/airflow/kubeconfig").replace("//127.0.0.1:", f"//{machine.address}:")
    kubeconfig = yaml.safe_load(text)
    token = json.loads(shell("cat /etc/airflow/kubeconfig.d/token"))["status"]["token"]
    kubeconfig["users"][0]["user"] = {"token": token}
    return client.CoreV1Api(config.new_client_from_config_dict(kubeconfig))


@pytest.fixture(scope="module")
def everything(shell: Shell) -> client.CoreV1Api:
    """The cluster as its administrator sees it."""
    kubeconfig = yaml.safe_load(shell("kubectl config view --flatten --raw"))
    return client.CoreV1Api(config.new_client_from_config_dict(kubeconfig))


GO_ON = "/opt/airflow/dags/e2e_go_on"


@pytest.fixture
def patient(airflow: Airflow, shell: Shell) -> Iterator[str]:
    """A run whose task runs until GO_ON is there; afterwards it must end well, on its first try."""
    bring_dag("e2e_broken", shell)
    shell(f"rm -f {GO_ON}")
    run = airflow.trigger("e2e_waiting")
    wait_for(
        lambda: runs.tries(airflow, "e2e_waiting", run) == {"wait": ("running", 1)},
        60 + SLACK,
        "it runs",
    )
    yield run
    shell(f"touch {GO_ON}")
    runs.ends_well(airflow, "e2e_waiting", run)
    assert runs.tries(airflow, "e2e_waiting", run) == {"wait": ("success", 1)}


@pytest.fixture(scope="module")
def slow_dag(shell: Shell) -> str:
    """A DAG whose task takes half a minute."""
    bring_dag("e2e_slow", shell)
    return "e2e_slow"
