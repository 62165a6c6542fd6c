"""A machine that is measured: run commands, deploys, tasks and bare pods on it, and look at it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml

from tasks.airflow.services import SERVICES
from tasks.layout import POD_TEMPLATE, ROOT
from tests.e2e.support import Airflow, bring_dag, log_in
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.stories import RELEASES
from tests.support import wait_for

FOLDER = Path(__file__).parent
LOOK = FOLDER / "look.py"
EMPTY = FOLDER / "empty.py"
DAG = FOLDER / "dags/bench.py"

POD_SECONDS = 180  # at most, for 30 pods or tasks
HEALTHY_SECONDS = 240
KUBERNETES = ("kubelet.service", "containerd.service", "minikube.service")
# What ends before somebody looks, as the check of liveness, belongs to systemd then.
PARTS = ("Airflow", "PostgreSQL", "Kubernetes", "the rest")


class Look(NamedTuple):
    """CPU seconds of a machine so far, and the memory of its units if it was asked for."""

    machine: float
    all_pods: float
    pods: dict[str, float]  # those that have a control group
    units: dict[str, float]
    memory: dict[str, int]
    held: int = 0  # by all processes of the machine


def ended_pods(before: Look, after: Look) -> float:
    """CPU seconds of the pods that began since: those of all, without those of older ones."""
    older = sum(after.pods.get(name, seconds) - seconds for name, seconds in before.pods.items())
    return after.all_pods - before.all_pods - older


def part_of(unit: str) -> str:
    """The part of a host to which a unit belongs."""
    if unit.startswith("airflow-"):
        return "Airflow"
    if unit.startswith("postgresql"):
        return "PostgreSQL"
    return "Kubernetes" if unit in KUBERNETES else "the rest"


def by_part(before: Look, after: Look) -> dict[str, float]:
    """The CPU seconds of a time by the parts of a host; together they are those of the machine."""
    found = dict.fromkeys(PARTS, 0.0)
    for unit, seconds in after.units.items():
        # A unit that started again begins at 0.
        found[part_of(unit)] += max(0.0, seconds - before.units.get(unit, 0))
    found["Kubernetes"] += after.all_pods - before.all_pods
    found["the rest"] = 0
    found["the rest"] = after.machine - before.machine - sum(found.values())
    return found


@dataclass
class Ended:
    """How a run of pyinfra ended, and how long it took."""

    seconds: float
    output: str
    results: dict[str, Any]

    @property
    def changed(self) -> list[str]:
        """Names of the operations that changed something."""
        return [each["name"] for each in self.results["operations"] if each["success"]]

    @property
    def commands(self) -> int:
        """Commands on the host that pyinfra shows with -vv."""
        return len(re.findall(r">>> ", self.output))


class Host:
    """A machine, its Debian release, and the checkout whose code deploys it."""

    def __init__(self, name: str, release: str = RELEASES[0], checkout: Path = ROOT) -> None:
        self.name, self.release, self.checkout = name, release, checkout

    @cached_property
    def machine(self) -> Machine:
        """How to reach it."""
        return machines.load(self.name)

    @cached_property
    def api(self) -> Airflow:
        """Its REST API."""
        return log_in(self.machine)

    def shell(self, command: str, stdin: bytes | None = None) -> str:
        """Run a command as root; returns its output."""
        return machines.run(self.machine, command, stdin=stdin).stdout.strip()

    def look(self, *words: str) -> Look:
        """Its CPU seconds so far; with the word memory also its memory."""
        command = " ".join(["python3 -", *words])
        return Look(**json.loads(self.shell(command, LOOK.read_bytes())))

    def deploy(self, *words: str, what: Path | None = None) -> Ended:
        """Run the deploy of the checkout, or another file of operations."""
        own = self.checkout / ".venv/bin/pyinfra"
        program = "pyinfra" if self.checkout == ROOT else str(own)
        command = [program, "--json", "--yes", *words, "inventories/sandbox.py"]
        began = time.monotonic()
        done = subprocess.run(
            [*command, str(what or "deploy.py")],
            cwd=self.checkout,
            env=os.environ | {"AIRFLOW_SANDBOX": self.name},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - began
        assert done.returncode == 0, done.stdout + done.stderr
        results = json.loads(done.stdout.splitlines()[-1])["results"]
        return Ended(seconds, done.stdout + done.stderr, results)

    def install_dags(self) -> None:
        """Put the DAGs of the benchmark there, and run a task, so that the first one is warm."""
        bring_dag(DAG.stem, self.shell, DAG.read_text())
        self.run_tasks("bench_single")

    def run_tasks(self, dag: str) -> float:
        """Run a DAG; returns the seconds from its trigger to the end of its last task.

        Both are of the host's clock, so it is asked seldom, which costs it less.
        """
        run = self.api.trigger(dag)
        ended = ("success", "failed")
        wait_for(lambda: self.api.run_state(dag, run) in ended, POD_SECONDS, f"{dag} ends", 1)
        found = self.api.request("GET", f"/dags/{dag}/dagRuns/{quote(run)}")
        assert found["state"] == "success", found
        ends = [moment(each["end_date"]) for each in self.api.tasks(dag, run)]
        pods = f"kubectl -n {self.namespace} get pods -o name -l dag_id={dag}"
        wait_for(lambda: not self.shell(pods), POD_SECONDS, f"the pods of {dag} are removed", 1)
        return max(ends) - moment(found["queued_at"])

    @cached_property
    def _template(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.shell(f"cat {POD_TEMPLATE}")))

    @property
    def namespace(self) -> str:
        """The namespace of the pods."""
        return str(self._template["metadata"]["namespace"])

    def run_bare_pods(self, count: int) -> float:
        """Run pods of the task pods' template without Airflow; returns the seconds of the host's
        clock until all succeeded."""
        kubectl = f"kubectl -n {self.namespace}"
        wait = "--for=jsonpath={.status.phase}=Succeeded"
        wait = f"{kubectl} wait pods -l bench=bare {wait} --timeout={POD_SECONDS}s >/dev/null"
        self.shell(f"{kubectl} delete pods -l bench=bare --ignore-not-found")
        now = "date +%s.%N"
        command = f"{now} && {kubectl} create -f - >/dev/null && {wait} && {now}"
        pods = bare_pods(self._template, count)
        began, ended = self.shell(command, json.dumps(pods).encode()).split()
        self.shell(f"{kubectl} delete pods -l bench=bare")
        return float(ended) - float(began)

    @contextmanager
    def without_airflow(self) -> Iterator[None]:
        """Stop Airflow's units, and start them again afterwards."""
        self.shell("systemctl stop airflow.target")
        try:
            yield
        finally:
            self.shell("systemctl start airflow.target")
            healthy = {"healthy"}
            wait_for(
                lambda: {*self.api.health().values()} == healthy,
                HEALTHY_SECONDS,
                "Airflow is healthy again",
                1,
            )

    def memory(self) -> tuple[int, int]:
        """Bytes of the four units, where what processes share is divided among them, and of all
        processes of the machine."""
        found = self.look("memory")
        return sum(found.memory[service.unit] for service in SERVICES), found.held


def moment(text: str) -> float:
    """A time of the REST API's in Unix time."""
    return datetime.fromisoformat(text).timestamp()


def bare_pods(template: dict[str, Any], count: int) -> dict[str, Any]:
    """A list of pods as a template makes them, that run `python -c pass`."""
    pods = []
    for each in range(count):
        pod = json.loads(json.dumps(template))
        pod["metadata"] |= {"name": f"bench-{each}", "labels": {"bench": "bare"}}
        container = pod["spec"]["containers"][0]
        container["command"] = ["python", "-c", "pass"]  # without the program of the image
        container.pop("args", None)
        pods.append(pod)
    return {"apiVersion": "v1", "kind": "List", "items": pods}
