"""Pods that tasks start, in all the ways that KubernetesPodOperator has; for the tests."""

import os

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import dag
from kubernetes.client import models as k8s

IMAGE = "@IMAGE@"  # the test writes the worker image here
MAY_START_PODS = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        service_account_name="airflow-pod-operator",
        automount_service_account_token=True,
        containers=[k8s.V1Container(name="base")],
    )
)


def start(task_id: str, command: str, **options: object) -> KubernetesPodOperator:
    """A task that runs a shell command in a pod that it starts."""
    return KubernetesPodOperator(
        task_id=task_id,
        image=IMAGE,
        image_pull_policy="IfNotPresent",
        cmds=["sh", "-c", command],
        security_context={"runAsUser": os.getuid()},
        service_account_name="airflow-worker",
        labels={"started_by": task_id},
        executor_config={"pod_override": MAY_START_PODS},
        **options,
    )


XCOM = "echo pod says hello; echo '{\"answer\": 42}' > /airflow/xcom/return.json"


@dag(schedule=None, catchup=False)
def e2e_pod_operator() -> None:
    """Each ends well, and passes on the output of its pod."""
    start("xcom", XCOM, do_xcom_push=True)
    start("deferred", f"sleep 8; {XCOM}", do_xcom_push=True, deferrable=True, poll_interval=1)


e2e_pod_operator()


@dag(schedule=None, catchup=False)
def e2e_pod_operator_killed() -> None:
    """A test stops these, and their pods should end too."""
    start("waiting", "echo started; trap 'exit 0' TERM; sleep 600 & wait")
    start("waiting_deferred", "echo started; trap 'exit 0' TERM; sleep 600 & wait", deferrable=True)


e2e_pod_operator_killed()
