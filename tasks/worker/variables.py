"""The environment variables of all that runs DAG code: task pods, and processes of the host."""

from __future__ import annotations

import re

from tasks import layout
from tasks.settings import HostSettings
from tasks.worker import authority, dags, image, logs, options

# Stands for the image until the host puts it in: only the host knows its digest. No value has it,
# since control characters are refused.
_IMAGE = "\0"
# The same in the file: a dollar sign of a value has a backslash before it.
IN_FILE = "$$(AIRFLOW_WORKER_IMAGE)"
# The units and the command line set these to places of the host.
HOST_HAS = ("AIRFLOW_CONFIG", "AIRFLOW_HOME", "HOME", "KUBECONFIG")


def of_pods(settings: HostSettings) -> dict[str, str]:
    """A task pod's variables about Airflow, and those of the inventory. None is secret: a pod needs
    no database and no key, and talks to the Execution API with the token of its task."""
    return _own(settings) | options.for_pods(settings) | settings.dags.env


def _own(settings: HostSettings) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": "/tmp/airflow",
        "AIRFLOW_WORKER_IMAGE": image.reference(settings),
        "AIRFLOW__CORE__DAGS_FOLDER": layout.DAGS,
        "AIRFLOW__CORE__PLUGINS_FOLDER": layout.PLUGINS,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": settings.execution_api_url,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": dags.bundles(settings),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": "/tmp/airflow/bundles",
        "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": settings.kubernetes.namespace,
        # No task should fail because the api-server restarts (about 15 s). By default a worker
        # gives up after some 20 s.
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "20",
        # The reason is in airflow/config.py.
        **({} if settings.sends_metrics else {"AIRFLOW__METRICS__LEGACY_NAMES_ON": "False"}),
        **logs.environment(settings),
        **authority.environment(),
        # The task's process makes the links in mails.
        **({"AIRFLOW__API__BASE_URL": settings.web.url} if settings.web.url else {}),
        # If a DAG names an executor, Airflow checks that it is configured.
        "AIRFLOW__CORE__EXECUTOR": settings.airflow.executor,
        # Kubernetes puts in the node's address.
        **settings.proxy_environment("$(HOST_IP)"),
    }


def of_host(settings: HostSettings) -> dict[str, str]:
    """The inventory's variables on the host, with the values of $(NAME), which Kubernetes puts in
    for pods. The host reaches itself at its loopback address. Tasks on the host find the image of
    pods as tasks in pods do."""
    known = {"HOST_IP": layout.LOOPBACK, **_own(settings), "AIRFLOW_WORKER_IMAGE": _IMAGE}
    found = {"AIRFLOW_WORKER_IMAGE": _IMAGE} if settings.airflow.tasks_on_host else {}
    for name, value in settings.dags.env.items():
        known[name] = _expanded(value, known)
        if name not in HOST_HAS:
            found[name] = known[name]
    if path := found.get("PYTHONPATH"):
        found["PYTHONPATH"] = f"{layout.MODULES}:{path}"
    return found


def _expanded(value: str, known: dict[str, str]) -> str:
    """A value with its references, by Kubernetes' rules: $$ is $, and unknown references stay."""
    return re.sub(
        r"\$\$|\$\(([^)]*)\)",
        lambda found: "$" if found[0] == "$$" else known.get(found[1], found[0]),
        value,
    )


def file(settings: HostSettings) -> str:
    """The variables of the host as systemd and sh read them, with IN_FILE for the image."""
    lines = ["# The deploy writes this file (dags_env) for the processes that run DAG code.\n"]
    for name, value in of_host(settings).items():
        # systemd and sh remove a backslash only before these characters.
        escaped = re.sub(r'(["\\`$])', r"\\\1", value)
        lines.append(f'{name}="{escaped.replace(_IMAGE, IN_FILE)}"\n')
    return "".join(lines)
