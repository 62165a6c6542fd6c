"""The tables of settings in inventories/README.md, made from Settings.

python -m tests.unit.settings_table prints them.
"""

from __future__ import annotations

import json
import typing
from typing import Any

from pydantic import BaseModel

from tasks.settings import Settings

HEAD = ["| Setting | Default | Meaning |", "|---|---|---|"]

# The settings of each section, by its heading.
SECTIONS = {
    "Airflow": (
        "airflow_version",
        "airflow_extra_requirements",
        "airflow_config",
        "airflow_executor",
        "airflow_admin_user",
        "airflow_uid",
        "airflow_examples",
        "airflow_smoke_test",
    ),
    "Web page": (
        "airflow_web_host",
        "airflow_web_port",
        "airflow_https_port",
        "airflow_pods_port",
        "airflow_address_for_pods",
        "airflow_base_url",
        "airflow_web_certificate",
        "airflow_host_names",
        "airflow_logins_per_minute",
    ),
    "DAGs": (
        "airflow_dags_source",
        "airflow_dags_from",
        "airflow_dags_claim",
        "airflow_git_bundles",
    ),
    "Task logs": ("airflow_logs", "airflow_logs_claim", "airflow_logs_s3"),
    "Connections, variables and pools": (
        "airflow_connections",
        "airflow_variables",
        "airflow_pools",
    ),
    "Retention and backups": (
        "airflow_log_days",
        "airflow_history_days",
        "airflow_backups_kept",
        "worker_failed_pods_minutes",
        "worker_images_kept",
    ),
    "Metrics": ("airflow_metrics_port",),
    "Worker image": ("worker_image", "worker_apt_packages", "worker_registry"),
    "Task pods": (
        "worker_resources",
        "worker_env",
        "worker_pod",
        "worker_pod_template",
        "worker_delete_finished_pods",
        "kubernetes_pod_operator",
        "kubernetes_more_namespaces",
        "kubernetes_objects",
        "kubernetes_network_policy",
        "kubernetes_network_allowed",
    ),
    "Kubernetes": (
        "kubernetes_provider",
        "kubernetes_kubeconfig",
        "kubernetes_context",
        "kubernetes_namespace",
        "kubernetes_version",
        "kubectl_sha256",
    ),
    "minikube": (
        "minikube_version",
        "minikube_sha256",
        "minikube_driver",
        "minikube_start_args",
        "minikube_addons",
        "crictl_version",
        "crictl_sha256",
        "offline_dir",
    ),
    "PostgreSQL": ("postgres_version", "postgres_config"),
}


def rows(section: str) -> list[tuple[str, str, str]]:
    """Name, default and meaning of each setting of a section, as its table shows them."""
    fields = Settings.model_fields
    return [
        (f"`{name}`", default(fields[name].default), str(fields[name].description))
        for name in SECTIONS[section]
    ]


def default(value: Any) -> str:
    """A default as one writes it in an inventory; of a checksum its beginning is enough."""
    if value is None:
        return "none"
    if isinstance(value, str) and len(value) == 64:
        value = f"{value[:12]}…"
    # JSON of texts, lists and dictionaries is Python too; it is so for numbers, not for booleans.
    text = repr(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def keys(setting: str) -> list[str]:
    """The keys of a setting that has parts of its own, or whose entries have; none otherwise."""
    model = _model(Settings.model_fields[setting].annotation)
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _model(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for part in typing.get_args(kind) if (found := _model(part))), None)


def table(section: str) -> str:
    """A section's table as Markdown, and the keys of its settings."""
    lines = [*HEAD, *(f"| {' | '.join(row)} |" for row in rows(section))]
    named = {name: found for name in SECTIONS[section] if (found := keys(name))}
    listed = [
        f"- Keys of `{name}`: {', '.join(f'`{key}`' for key in found)}."
        for name, found in named.items()
    ]
    return "\n".join([*lines, *([""] if listed else []), *listed])


if __name__ == "__main__":
    for heading in SECTIONS:
        print(f"## {heading}\n\n{table(heading)}\n")
