"""KubernetesPodOperator: a task that starts another pod, of any image, and follows its log.

Needs the setting kubernetes_pod_operator, which gives the service account used here its rights.
"""

import os

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import dag
from kubernetes.client import models as k8s

# The task's own pod may start pods; the pod that it starts may not.
MAY_START_PODS = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        service_account_name="airflow-pod-operator",
        automount_service_account_token=True,
        containers=[k8s.V1Container(name="base")],
    )
)


@dag(schedule=None, catchup=False, tags=["example"])
def example_pod_operator() -> None:
    """Runs a command in a pod of the worker image; any image that the cluster can pull will do."""
    KubernetesPodOperator(
        task_id="say_hello",
        image=os.environ.get("AIRFLOW_WORKER_IMAGE", ""),
        image_pull_policy="IfNotPresent",
        cmds=["python", "-c"],
        arguments=["print('Hello from a pod that a task started')"],
        # The cluster admits no root; this replaces the user of the image by the task's own.
        security_context={"runAsUser": os.getuid()},
        service_account_name="airflow-worker",
        automount_service_account_token=False,
        get_logs=True,
        executor_config={"pod_override": MAY_START_PODS},
    )


example_pod_operator()
