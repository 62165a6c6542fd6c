"""Tasks that name an executor, of which there must be two; for the end-to-end tests."""

import os
import time
from pathlib import Path

from airflow.sdk import dag, task

GO_ON = Path("/opt/airflow/dags/e2e_go_on")


@dag(schedule=None, catchup=False)
def e2e_executors() -> None:
    """Where tasks run that ask for an executor, or for none."""

    def where() -> None:
        print("uid", os.getuid(), "in a pod:", "AIRFLOW_IS_K8S_EXECUTOR_POD" in os.environ)

    task(where, task_id="by_default")()
    task(where, task_id="in_a_pod", executor="KubernetesExecutor")()
    task(where, task_id="on_the_host", executor="LocalExecutor")()


e2e_executors()


@dag(schedule=None, catchup=False)
def e2e_long_on_the_host() -> None:
    """A task of the host that a stop of the scheduler has to wait for."""

    @task(executor="LocalExecutor")
    def take_your_time() -> None:
        print("the first line", flush=True)
        end = time.monotonic() + 300
        while not GO_ON.exists():
            if time.monotonic() > end:
                raise TimeoutError(f"{GO_ON} did not come")
            time.sleep(0.5)
        print("the last line")

    take_your_time()


e2e_long_on_the_host()
