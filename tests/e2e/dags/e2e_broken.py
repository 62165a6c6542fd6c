"""Tasks that run while something is broken; for the end-to-end tests."""

import os
import time
from pathlib import Path

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

GO_ON = Path("/opt/airflow/dags/e2e_go_on")
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
        end = time.monotonic() + 600
        while not GO_ON.exists():
            if time.monotonic() > end:
                raise TimeoutError(f"{GO_ON} did not come")
            time.sleep(0.5)
        return "done"

    wait()


e2e_waiting()


@dag(schedule=None, catchup=False)
def e2e_unlucky() -> None:
    """Tasks whose first try is ended from outside."""

    @task(retries=1, retry_delay=1)
    def deleted(ti=None) -> None:  # type: ignore[no-untyped-def]
        print(f"try {ti.try_number} began", flush=True)
        if ti.try_number == 1:
            time.sleep(300)  # until its pod is deleted

    @task(executor_config=LITTLE_MEMORY)
    def greedy() -> None:
        hoard = []
        while True:
            hoard.append(b"x" * 2**24)
            time.sleep(0.05)

    deleted()
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
