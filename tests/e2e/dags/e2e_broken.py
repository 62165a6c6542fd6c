"""Tasks that run while something is broken; for the end-to-end tests."""

import os
import time
from pathlib import Path

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

GO_ON, SPARED = Path("/opt/airflow/dags/e2e_go_on"), Path("/opt/airflow/dags/e2e_spared")
LITTLE_MEMORY = {
    "pod_override": k8s.V1Pod(
        spec=k8s.V1PodSpec(
            containers=[
                k8s.V1Container(
                    name="base",
                    resources=k8s.V1ResourceRequirements(limits={"memory": "400Mi"}),
                )
            ]
        )
    )
}


def wait_until_there(path: Path) -> None:
    """Return when there is such a file; it must come within ten minutes."""
    end = time.monotonic() + 600
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not come")
        time.sleep(0.5)


@dag(schedule=None, catchup=False, max_active_tasks=6)
def e2e_many() -> None:
    """Twenty short tasks, a few of them at a time."""

    @task
    def work(number: int) -> int:
        print(f"number {number} in {os.environ['HOSTNAME']}", flush=True)
        time.sleep(5)
        return number

    work.expand(number=list(range(20)))


e2e_many()


@dag(schedule=None, catchup=False)
def e2e_few() -> None:
    """Eight trivial tasks at once."""

    @task
    def work(number: int) -> int:
        return number

    work.expand(number=list(range(8)))


e2e_few()


@dag(schedule=None, catchup=False)
def e2e_waiting() -> None:
    """One task that ends when the test says so."""

    @task
    def wait() -> str:
        wait_until_there(GO_ON)
        return "done"

    wait()


e2e_waiting()


@dag(schedule=None, catchup=False)
def e2e_unlucky() -> None:
    """Tasks whose first try is ended from outside."""

    @task(retries=1, retry_delay=1)
    def deleted(ti=None) -> None:  # type: ignore[no-untyped-def]
        print(f"try {ti.try_number} began", flush=True)
        for _ in range(300 if ti.try_number == 1 else 0):  # until its pod has ended
            print(f"still there at {time.time()}", flush=True)
            time.sleep(1)

    @task
    def spared() -> None:
        print("try 1 began", flush=True)
        wait_until_there(SPARED)

    @task(retries=1, retry_delay=1, executor_config=LITTLE_MEMORY)
    def greedy(ti=None) -> None:  # type: ignore[no-untyped-def]
        hoard = []
        while ti.try_number == 1:
            hoard.append(b"x" * 2**24)
            time.sleep(0.05)

    deleted()
    spared()
    greedy()


e2e_unlucky()


@dag(schedule=None, catchup=False)
def e2e_talkative() -> None:
    """A task whose log needs room, and that is patient."""

    @task(retries=20, retry_delay=3)
    def talk() -> str:
        for number in range(1000):
            print(f"line {number}")
        return "done"

    talk()


e2e_talkative()
