"""Tasks that end by force: they fail, and the run goes on."""

import ctypes
import os
import signal
import time

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

SMALL_DISK = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        containers=[
            k8s.V1Container(
                name="base",
                resources=k8s.V1ResourceRequirements(
                    requests={"ephemeral-storage": "10Mi"}, limits={"ephemeral-storage": "50Mi"}
                ),
            )
        ]
    )
)


@dag(schedule=None, catchup=False)
def e2e_ends() -> None:
    """The first four fail; the last one tells that the run went on."""

    @task
    def memory() -> None:
        print("takes memory", flush=True)
        held = []
        while True:
            held.append(bytearray(b"x") * (64 * 2**20))

    @task
    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def crashed() -> None:
        ctypes.string_at(0)

    @task(executor_config={"pod_override": SMALL_DISK})
    def disk() -> None:
        print("fills its disk", flush=True)
        with open("/tmp/full", "wb") as file:
            for _ in range(100):
                file.write(b"x" * 2**20)
        time.sleep(300)  # Kubernetes looks every ten seconds or so

    @task(trigger_rule="all_done")
    def last() -> None:
        print("went on")

    [memory(), killed(), crashed(), disk()] >> last()


e2e_ends()
