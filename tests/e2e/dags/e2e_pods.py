"""Tasks whose pods differ from what the template makes of them; for the end-to-end tests."""

import os
import socket
import time
from pathlib import Path

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

IMAGE = "@IMAGE@"  # the test writes the worker image here
SHARED = k8s.V1VolumeMount(name="shared", mount_path="/shared")


def pod(metadata=None, *, base=None, **spec):
    """An executor_config that overrides this much of the pod."""
    container = k8s.V1Container(name="base", **(base or {}))
    return {
        "pod_override": k8s.V1Pod(
            metadata=k8s.V1ObjectMeta(**(metadata or {})),
            spec=k8s.V1PodSpec(containers=[container], **spec),
        )
    }


# A container that runs beside the task and ends with it: it starts before the task.
SIDECAR = k8s.V1Container(
    name="beat",
    image=IMAGE,
    restart_policy="Always",
    command=["sh", "-c", "trap 'exit 0' TERM; while :; do date > /shared/beat; sleep 1; done"],
    volume_mounts=[SHARED],
)


@dag(schedule=None, catchup=False)
def e2e_pods() -> None:
    """Each task says what it sees."""

    @task
    def plain() -> None:
        print("colour", os.environ["COLOUR"], "node", os.environ["NODE_NAMED"])

    @task(
        executor_config=pod(
            base={"volume_mounts": [SHARED]},
            volumes=[k8s.V1Volume(name="shared", empty_dir=k8s.V1EmptyDirVolumeSource())],
            init_containers=[SIDECAR],
        )
    )
    def with_sidecar() -> None:
        before = Path("/shared/beat").stat().st_mtime
        while Path("/shared/beat").stat().st_mtime == before:
            time.sleep(0.2)
        print("the sidecar goes on")

    @task(executor_config=pod(base={"image": "localhost/e2e-worker:other"}))
    def other_image() -> None:
        print("in", socket.gethostname())

    @task(executor_config=pod({"namespace": "team-a"}, priority_class_name="urgent"))
    def elsewhere(number: int) -> None:
        time.sleep(4)
        print("number", number)

    plain()
    with_sidecar()
    other_image()
    elsewhere.expand(number=[1, 2])


e2e_pods()


@dag(schedule=None, catchup=False)
def e2e_pod_that_fails() -> None:
    """A task whose pod fails; that of a task that only raises an exception ends well."""

    @task(executor_config=pod(base={"command": ["false"]}))
    def never_begin() -> None:
        print("the pod's command is another one")

    never_begin()


e2e_pod_that_fails()
