"""While the cluster's API is away, the scheduler goes on, and tasks without a pod stay queued.

KubernetesExecutor of Airflow 3.3.2 asks the cluster each minute for pods of schedulers that ended.
Without an answer the scheduler ends, after each start again, and its queued tasks begin another
try. It asks again for a pod that the API could not create, but not in the first seconds of an API,
which knows neither roles nor accounts yet: such a task would fail.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from airflow_deploy_imports import replace, when_imported

EXECUTOR = "airflow.providers.cncf.kubernetes.executors.kubernetes_executor"
HARM = "An outage of the cluster's API may end the scheduler or tasks"
# Words of an API that has not read all of its roles, or all that its admission needs. Sources:
# forbiddenMessage in apiserver's responsewriters/errors.go, and WaitForReady in its admission.
STARTING = ("cannot create resource", "not yet ready to handle request")
PATIENCE = 60.0  # seconds that a start may take; refusals that last longer are meant
log = logging.getLogger(__name__)


def adopt_completed_pods(own: Any) -> Any:
    """The pods that ended without a scheduler; later ones if the cluster does not answer."""

    def replaced(self: Any, kube_client: Any) -> None:
        # Here, since most processes never import the executor, which has loaded these.
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            own(self, kube_client)
        except (ApiException, HTTPError) as error:
            log.warning("The cluster does not list its pods, so Airflow asks later: %s", error)

    return replaced


def refuses_for_now(error: Any) -> bool:
    """Whether the API has refused a pod with words that it also has in its first seconds."""
    words = str(getattr(error, "body", ""))
    status = getattr(error, "status", None)
    return status == 401 or (status == 403 and any(each in words for each in STARTING))


def handle_pod_publish_error(own: Any) -> Any:
    """An error of a pod's creation, as Airflow handles it. One that a start may have is handled
    as an outage, unless it lasts."""
    first = last = -PATIENCE

    def replaced(self: Any, task: Any, e: Exception) -> Any:
        nonlocal first, last
        from urllib3.exceptions import ProtocolError

        if not refuses_for_now(e):
            return own(self, task, e)
        now = time.monotonic()
        if now - last >= PATIENCE:
            first = now
        last = now
        if now - first < PATIENCE:
            e = ProtocolError(f"the cluster's API may be starting: {e}")
        return own(self, task, e)

    return replaced


def change(module: Any) -> None:
    """Let the executor wait for the cluster's API."""
    executor = getattr(module, "KubernetesExecutor", None)
    replace(executor, "_adopt_completed_pods", "self kube_client", adopt_completed_pods, HARM)
    replace(executor, "_handle_pod_publish_error", "self task e", handle_pod_publish_error, HARM)


def install() -> None:
    """Wait for the executor's module."""
    when_imported(EXECUTOR, change)
