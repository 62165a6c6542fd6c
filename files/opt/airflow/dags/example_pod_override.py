"""A task that shapes its own pod: more memory, an environment variable, a label."""

import os
from pathlib import Path

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

SHAPE = k8s.V1Pod(
    metadata=k8s.V1ObjectMeta(labels={"size": "large"}),
    spec=k8s.V1PodSpec(
        containers=[
            k8s.V1Container(
                name="base",  # the container that runs the task; Airflow merges by position
                env=[k8s.V1EnvVar(name="GREETING", value="made to measure")],
                resources=k8s.V1ResourceRequirements(
                    requests={"cpu": "100m", "memory": "300Mi"}, limits={"memory": "700Mi"}
                ),
            )
        ]
    ),
)

# The container's memory limit, with the second and the first version of control groups.
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dag(schedule=None, catchup=False, tags=["example"])
def example_pod_override() -> None:
    """The task sees what its pod was given."""

    @task(executor_config={"pod_override": SHAPE})
    def look_around() -> dict[str, str]:
        limits = [Path(path).read_text().strip() for path in MEMORY_LIMITS if Path(path).exists()]
        seen = {"greeting": os.environ["GREETING"], "memory_limit": limits[0]}
        print(seen)
        return seen

    look_around()


example_pod_override()
