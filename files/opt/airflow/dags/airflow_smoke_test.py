"""One task that greets. The deploy runs it to prove that tasks run as pods; keep it."""

import socket

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False, is_paused_upon_creation=False, tags=["deploy"])
def airflow_smoke_test() -> None:
    """Runs when the deploy, or the command airflow-smoke-test, asks for it."""

    @task(executor="KubernetesExecutor")
    def greet() -> None:
        print(f"Hello from a pod: {socket.gethostname()}")

    greet()


airflow_smoke_test()
