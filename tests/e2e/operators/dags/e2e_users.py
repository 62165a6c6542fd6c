"""Tasks of several Linux users in one run: their logs lie in the same folders.

Needs kubernetes_allowed_users = [0, 65534].
"""

import os

from airflow.sdk import dag, task
from kubernetes.client import models as k8s


def as_user(user: int) -> dict[str, k8s.V1Pod]:
    """A pod whose task runs as this user; the group stays that of the other pods."""
    context = k8s.V1SecurityContext(
        run_as_user=user,
        run_as_non_root=user != 0,
        allow_privilege_escalation=False,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
    )
    container = k8s.V1Container(name="base", security_context=context)
    return {"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))}


def tell() -> None:
    """Say who runs this."""
    print("user", os.getuid(), "group", os.getgid())


@dag(schedule=None, catchup=False)
def e2e_users() -> None:
    """Another user after the usual one, then root, and the usual one again."""
    usual = task(task_id="usual")(tell)()
    nobody = task(task_id="nobody", executor_config=as_user(65534))(tell)()
    root = task(task_id="root", executor_config=as_user(0))(tell)()
    again = task(task_id="again")(tell)()
    usual >> nobody >> root >> again


@dag(schedule=None, catchup=False)
def e2e_root_first() -> None:
    """The other way round."""
    task(task_id="root", executor_config=as_user(0))(tell)() >> task(task_id="usual")(tell)()


e2e_users()
e2e_root_first()
