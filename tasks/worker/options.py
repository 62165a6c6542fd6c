"""Which options of `airflow_config` reach the task pods: all but those that stay on the host.

airflow.cfg has all of them for the services, and for tasks on the host. A pod gets them as
environment variables, of which everybody who sees the pod's manifest can read the values: the web
page shows it with each task. `tests/unit/airflow_options.txt` lists the options of the locked
Airflow, and a unit test wants a decision about each of its sections and secrets here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tasks.settings import HostSettings

POD = ""  # tasks read it, or code that they import
# Reasons why others stay on the host.
SERVICES = "only the services read it"
PLACE = "pods have another place for it"
SECRET = "a pod's manifest would show it"

# A section, or one of its options, which counts more. Sections of other providers go to the pods.
WHERE: Mapping[str, str] = {
    "api": SERVICES,
    "api.base_url": POD,  # links in mails
    "api.client_ssl_cert": POD,
    "api.client_ssl_key": POD,
    "api.client_use_public_certs": POD,
    "api_auth": SERVICES,
    "aws": POD,
    "aws_auth_manager": SERVICES,
    "aws_batch_executor": SERVICES,
    "aws_ecs_executor": SERVICES,
    "aws_eks_executor": SERVICES,
    "aws_lambda_executor": SERVICES,
    "callbacks": POD,
    "common.io": POD,
    "connection_test": SERVICES,
    "core": POD,
    "core.asset_manager_kwargs": SERVICES,
    "core.dags_folder": PLACE,
    "core.execution_api_server_url": PLACE,
    "core.fernet_key": SECRET,
    "core.plugins_folder": PLACE,
    "core.simple_auth_manager_passwords_file": SERVICES,
    "dag_processor": SERVICES,
    "dag_processor.dag_bundle_config_list": POD,
    "dag_processor.disable_bundle_versioning": POD,
    "database": SERVICES,  # pods have no database
    "email": POD,
    "execution_api": SERVICES,
    "fab": SERVICES,
    "kerberos": POD,
    "kubernetes_executor": SERVICES,  # also the host's way into the cluster
    "lineage": POD,
    "local_kubernetes_executor": SERVICES,
    "logging": POD,
    "logging.base_log_folder": PLACE,
    "logging.dag_processor_child_process_log_directory": SERVICES,
    "logging.log_filename_template": SERVICES,  # a pod is told the name
    "logging.remote_task_handler_kwargs": SECRET,
    "logging.trigger_log_server_port": SERVICES,
    "logging.worker_log_server_port": SERVICES,
    "metrics": POD,
    "operators": POD,
    "postgres": POD,
    "profiling": POD,
    "scheduler": SERVICES,
    "scheduler.catchup_by_default": POD,
    "scheduler.create_cron_data_intervals": POD,
    "scheduler.create_delta_data_intervals": POD,
    "scheduler.task_instance_heartbeat_timeout": POD,
    "sdk": POD,
    # The api-server asks this backend for the tasks; pods have theirs in the section workers.
    "secrets": SERVICES,
    "sensors": POD,
    "sentry": POD,
    "sentry.sentry_dsn": SECRET,
    "smtp": POD,
    "standard": POD,
    "state_store": POD,
    "traces": POD,
    "triggerer": SERVICES,
    "triggerer.queues_enabled": POD,
    "workers": POD,
    "workers.secrets_backend_kwargs": SECRET,
}
# Names of secrets that Airflow does not know, such as those of a mail backend of your own.
LOOKS_SECRET = re.compile(r"(password|passwd|secret|token|access_key|private_key)$")


def where(section: str, option: str) -> str:
    """Why an option stays on the host; empty if it reaches the pods."""
    section, option = section.lower(), option.lower()
    if reason := WHERE.get(f"{section}.{option}", WHERE.get(section, POD)):
        return reason
    return SECRET if LOOKS_SECRET.search(option) else POD


def variable(section: str, option: str) -> str:
    """The environment variable in which Airflow finds an option."""
    return f"AIRFLOW__{section.replace('.', '_')}__{option}".upper()


def for_pods(settings: HostSettings) -> dict[str, str]:
    """The variables with which pods have the options of the inventory."""
    return {
        # Kubernetes would expand $(NAME), which airflow.cfg does not know.
        variable(section, option): value.replace("$", "$$")
        for section, option, value in _given(settings)
        if not where(section, option)
    }


def hidden(settings: HostSettings) -> list[str]:
    """Options that tasks read as well, and that do not reach them because they are secret."""
    base = next(iter(settings.worker.pod_override.get("spec", {}).get("containers", [])), {})
    there = {each.get("name") for each in base.get("env") or []} | set(settings.dags.env)
    return [
        f"{section}.{option}"
        for section, option, _ in _given(settings)
        if where(section, option) == SECRET and variable(section, option) not in there
    ]


def _given(settings: HostSettings) -> Iterator[tuple[str, str, str]]:
    for section, pairs in settings.airflow.config.items():
        for option, value in pairs.items():
            yield section, option, value
