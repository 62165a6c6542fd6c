"""Options that DAGs may not have, since the scheduler would act on them; and how pods get tasks.

Airflow finds this as a cluster policy by the folder beside it, in every process that has its
configuration; a policy of your own in airflow_local_settings.py goes on beside it.
"""

from __future__ import annotations

from typing import Any

import airflow_deploy_apart
import airflow_deploy_callbacks
import airflow_deploy_classes
import airflow_deploy_columns
import airflow_deploy_crashes
import airflow_deploy_keys
import airflow_deploy_links
import airflow_deploy_logs
import airflow_deploy_memory
import airflow_deploy_outages
import airflow_deploy_params
import airflow_deploy_proxies
import airflow_deploy_triggers
from airflow import settings
from airflow.configuration import conf
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.policies import hookimpl

KEY = "pod_template_file"
SENTENCE = (
    "pod_template_file of a task is not allowed, since the scheduler would open the file: change"
    " the task's pod with pod_override"
)
FINALIZERS = (
    "pod_override of a task may not have finalizers, since its pod would never go: leave them out"
)
NO_DICTIONARY = "executor_config of a task must be a dictionary, such as {'pod_override': V1Pod(…)}"
# The labels and annotations by which the executor finds the pods of tasks, and the task of a pod.
# It merges a pod_override last, and text instead of a number would end the scheduler after each
# start. Source: pod_generator.py, kubernetes_executor_types.py and kubernetes_helper_functions.py.
EXECUTORS = {
    *("dag_id", "task_id", "run_id", "try_number", "map_index", "logical_date", "execution_date"),
    *("task_instance_id", "ti_id", "airflow-worker", "kubernetes_executor"),
    *("airflow_executor_done", "airflow_pod_revoked"),
}
CALLBACK = (
    "a SyncCallback of a deadline needs an executor that runs callbacks, which KubernetesExecutor"
    " is not: use AsyncCallback, or name LocalExecutor if this Airflow has it"
)
# How Airflow begins a task in a pod; the task with its token follows.
TASK = ["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string"]
WORKLOAD = "AIRFLOW_DEPLOY_WORKLOAD"
# The same with the task from the environment. It works in each image with Airflow.
FROM_ENVIRONMENT = (
    f"import os, runpy, sys; sys.argv = ['', '{TASK[3]}', os.environ.pop('{WORKLOAD}')];"
    f" runpy.run_module('{TASK[2]}', run_name='__main__', alter_sys=True)"
)
# Airflow 3.3.2 notices the second hook below only in airflow_local_settings.py. Otherwise it writes
# new task instances to the database without asking any policy.
settings.task_instance_mutation_hook.is_noop = False
airflow_deploy_logs.install()
airflow_deploy_crashes.install()
airflow_deploy_memory.install()
airflow_deploy_columns.install()
airflow_deploy_apart.install()
airflow_deploy_callbacks.install()
airflow_deploy_classes.install()
airflow_deploy_keys.install()
airflow_deploy_links.install()
airflow_deploy_outages.install()
airflow_deploy_params.install()
airflow_deploy_proxies.install()
airflow_deploy_triggers.install()


@hookimpl
def dag_policy(dag: Any) -> None:
    """Refuse what would end the scheduler of Airflow 3.3.2 after each start."""
    columns = airflow_deploy_columns
    asked = (columns.objection_to_id, columns.objection_to_weights, columns.objection_to_mapping)
    if sentence := next(filter(None, (ask(dag) for ask in asked)), ""):
        raise AirflowClusterPolicyViolation(f"{dag.dag_id}: {sentence}")
    default = conf.get("core", "executor").partition(",")[0]
    for alert in dag.deadline or []:
        if sentence := airflow_deploy_classes.objection_to_deadline(alert):
            raise AirflowClusterPolicyViolation(f"{dag.dag_id}: {sentence}")
        callback = alert.callback
        # Others run in the triggerer.
        if hasattr(callback, "executor") and (callback.executor or default) == "KubernetesExecutor":
            raise AirflowClusterPolicyViolation(f"{dag.dag_id}: {CALLBACK}")


def objection(executor_config: Any) -> str:
    """Why a task may not have this executor_config; empty if it may. It raises nothing."""
    if not executor_config:
        return ""
    if not isinstance(executor_config, dict):
        return NO_DICTIONARY
    if KEY in executor_config:
        return SENTENCE
    metadata = getattr(executor_config.get("pod_override"), "metadata", None)
    if getattr(metadata, "finalizers", None):
        return FINALIZERS
    both = [getattr(metadata, name, None) for name in ("labels", "annotations")]
    taken = EXECUTORS & {name for each in both if isinstance(each, dict) for name in each}
    if not taken:
        return ""
    return (
        f"pod_override of a task may not have {', '.join(sorted(taken))} as label or annotation,"
        " since Airflow finds the task of a pod by them: use another name"
    )


@hookimpl
def task_policy(task: Any) -> None:
    """Refuse it where the DAG is read: the web page shows the sentence as an import error."""
    sentence = objection(getattr(task, "executor_config", None))
    if sentence := sentence or airflow_deploy_columns.objection_to_task(task):
        raise AirflowClusterPolicyViolation(f"{task.task_id}: {sentence}")


@hookimpl
def task_instance_mutation_hook(task_instance: Any) -> None:
    """Refuse it in the scheduler too, where a DAG arrives from the database.

    Each task instance gets its executor_config from the DAG right before this. An exception here
    would end the scheduler. The executor itself refuses a pod_override that is no pod, and fails
    this task alone.
    """
    if sentence := objection(task_instance.executor_config):
        task_instance.executor_config = {"pod_override": sentence}


@hookimpl
def pod_mutation_hook(pod: Any) -> None:
    """Give a task to its pod in a variable: arguments of processes are for all users of the node.

    Anybody who reads the token before the task begins could begin it, and then read all
    connections.
    """
    # Here, since only processes that make pods need it: it has 900 modules and takes 35 MB.
    from kubernetes.client import models as k8s

    for container in pod.spec.containers:
        args = container.args or []
        if args[:-1] != TASK:
            continue
        container.args = ["python", "-c", FROM_ENVIRONMENT]
        # Kubernetes takes $(NAME) for a variable, and $$ for $.
        value = args[-1].replace("$", "$$")
        container.env = [*(container.env or []), k8s.V1EnvVar(name=WORKLOAD, value=value)]
