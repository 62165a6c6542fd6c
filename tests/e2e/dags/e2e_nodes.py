"""Tasks on a node of their choice, and what they reach from there; for the end-to-end tests."""

import socket

from airflow.sdk import Variable, dag, task
from kubernetes.client import models


def on(name: str) -> dict[str, models.V1Pod]:
    """The choice of a node by a label."""
    base = models.V1Container(name="base")
    spec = models.V1PodSpec(containers=[base], node_selector={"e2e": name})
    return {"pod_override": models.V1Pod(spec=spec)}


@dag(schedule=None, catchup=False)
def e2e_nodes() -> None:
    """A task on each node."""

    @task
    def look() -> None:
        for address in Variable.get("e2e_addresses").split():
            host, port = address.split(":")
            try:
                socket.create_connection((host, int(port)), timeout=3).close()
            except OSError:
                print("closed", address)
            else:
                print("open", address)

    for name in ("first", "second"):
        look.override(task_id=name, executor_config=on(name))()


e2e_nodes()
