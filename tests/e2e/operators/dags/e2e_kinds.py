"""Kinds of tasks: Python in its own virtual environment, in another Python, in bash, in a pod."""

import os

from airflow.sdk import Param, dag, get_current_context, task, task_group
from kubernetes.client import models as k8s

# Its log has a folder of this name after "task_id=", and a name has at most 255 bytes.
LONG = "l" * 247
MAY_START_PODS = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        service_account_name="airflow-pod-operator",
        automount_service_account_token=True,
        containers=[k8s.V1Container(name="base")],
    )
)


@dag(
    dag_id="e2e_kinds_größe",
    schedule=None,
    catchup=False,
    params={"colour": Param("red", enum=["red", "green"])},
)
def e2e_kinds() -> None:
    """Each task says where it runs."""

    @task.virtualenv(requirements=[], system_site_packages=False)
    def virtualenv() -> str:
        import sys

        print("prefix", sys.prefix)
        return sys.prefix

    @task.virtualenv(requirements=["e2e-open"], system_site_packages=False)
    def index_of_the_host() -> None:
        import e2e_open

        print("from", e2e_open.WORD)

    @task.virtualenv(
        requirements=["e2e-closed"],
        system_site_packages=False,
        index_urls_from_connection_ids=["e2e_index"],
    )
    def index_with_login() -> None:
        import e2e_closed

        print("from", e2e_closed.WORD)

    @task.external_python(python="/usr/bin/python3", expect_airflow=False, expect_pendulum=False)
    def external_python() -> str:
        import sys

        print("prefix", sys.prefix)
        return sys.prefix

    @task.bash
    def bash() -> str:
        return "curl --version | head -n 1 && git --version && ps -o comm= -p 1"

    @task.kubernetes(
        image=os.environ.get("AIRFLOW_WORKER_IMAGE", ""),
        image_pull_policy="IfNotPresent",
        security_context={"runAsUser": os.getuid()},
        service_account_name="airflow-worker",
        executor_config={"pod_override": MAY_START_PODS},
    )
    def kubernetes() -> None:
        print("in a pod of its own")

    @task
    def params() -> None:
        print("colour", get_current_context()["params"]["colour"])

    @task(task_id=LONG)
    def long() -> None:
        print("long", len(get_current_context()["ti"].task_id))

    @task(task_id="größe")
    def unicode() -> None:
        print("schön 漢字 🎉")

    @task_group
    def outer() -> None:
        @task_group
        def inner() -> None:
            @task
            def leaf() -> None:
                print("leaf", get_current_context()["ti"].task_id)

            leaf()

        inner()

    # 500 pods would take a quarter of an hour on two cores; e2e_many has as many tasks without.
    @task
    def numbers() -> list[int]:
        return list(range(6))

    @task
    def square(number: int) -> int:
        return number * number

    @task
    def total(squares: list[int]) -> None:
        print("total", sum(squares))

    virtualenv()
    index_of_the_host()
    index_with_login()
    external_python()
    bash()
    kubernetes()
    params()
    long()
    unicode()
    outer()
    total(square.expand(number=numbers()))


e2e_kinds()
