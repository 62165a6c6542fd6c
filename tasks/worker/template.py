"""The pod template: the manifest that Airflow fills in with each task."""

from __future__ import annotations

from tasks import layout
from tasks.lib import kubectl
from tasks.settings import HostSettings
from tasks.worker import authority, dags, image, logs, pod


def manifest(settings: HostSettings) -> kubectl.Manifest:
    """The template for these settings."""
    return pod.template(
        settings,
        image.reference(settings),
        environment(settings),
        [*dags.volumes(settings), *logs.volumes(settings)],
        [authority.volume()],
    )


def environment(settings: HostSettings) -> dict[str, str]:
    """A task pod's variables about Airflow. None is secret: a pod needs no database and no key, and
    talks to the Execution API with the token that comes with its task."""
    return {
        "AIRFLOW_HOME": "/tmp/airflow",
        "AIRFLOW_WORKER_IMAGE": image.reference(settings),
        "AIRFLOW__CORE__DAGS_FOLDER": layout.DAGS,
        "AIRFLOW__CORE__PLUGINS_FOLDER": "/opt/airflow/plugins",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": settings.execution_api_url,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": dags.bundles(settings),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": "/tmp/airflow/bundles",
        "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": settings.kubernetes.namespace,
        # No task should fail because the api-server restarts (about 15 s). By default a worker
        # gives up after some 20 s.
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "20",
        **logs.environment(settings),
        **authority.environment(),
        # The task's process makes the links in mails.
        **({"AIRFLOW__API__BASE_URL": settings.web.base_url} if settings.web.base_url else {}),
        # If a DAG names an executor, Airflow checks that it is configured.
        "AIRFLOW__CORE__EXECUTOR": settings.airflow.executor,
        # Kubernetes puts in the node's address.
        **settings.proxy_environment("$(HOST_IP)"),
        **settings.worker.env,
    }
