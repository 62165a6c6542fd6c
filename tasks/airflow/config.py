"""Airflow's configuration: airflow.cfg, the pod template, and the command line that uses them."""

from __future__ import annotations

import yaml
from pyinfra.api import deploy

from tasks.airflow import venv
from tasks.airflow.database import url
from tasks.layout import (
    BUNDLES,
    CONFIG,
    CONTROL_USER,
    DAGS_USER,
    KUBECONFIG,
    LOOPBACK,
    PLUGINS,
    POD_TEMPLATE,
    ROOT,
    STATE,
)
from tasks.lib import whole_file
from tasks.lib.operations import synced_folder
from tasks.settings import HostSettings
from tasks.worker import dags, logs, pod, template

POLICY = ROOT / "files/opt/airflow/plugins"


@deploy("Airflow")
def write(settings: HostSettings) -> None:
    """The host has Airflow's configuration, and the command line uses its version."""
    manifest = yaml.safe_dump(template.manifest(settings), sort_keys=False)
    pod.let_the_cluster_check(settings, manifest)
    logs.share(settings)
    whole_file.template(
        name="Write airflow.cfg",
        src="files/etc/airflow/airflow.cfg.j2",
        dest=CONFIG,
        user="root",
        group=DAGS_USER,
        mode="640",
        options=options(settings),
    )
    whole_file.template(
        name="Write pod_template.yaml",
        src="files/etc/airflow/pod_template.yaml.j2",
        dest=POD_TEMPLATE,
        user="root",
        group=CONTROL_USER,
        mode="640",
        manifest=manifest,
    )
    synced_folder(
        name="Install the deploy's cluster policy",
        sources={
            str(path.relative_to(POLICY)): path
            for path in sorted(POLICY.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        },
        dest=PLUGINS,
        record=f"{STATE}/plugins",
    )
    venv.switch(settings)


def options(settings: HostSettings) -> dict[str, dict[str, str]]:
    """airflow.cfg by section and option: what the deploy wants, then what the inventory wants.

    Nothing secret is among it: secrets come to the units that need them as environment.
    Options and defaults: https://airflow.apache.org/docs/apache-airflow/3.3.2/configurations-ref.html
    """
    wanted = {
        "core": {
            "executor": settings.airflow.executor,
            "auth_manager": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            "dags_folder": dags.folder_on_host(settings),
            "plugins_folder": "/opt/airflow/plugins",
            "load_examples": "False",
            # For tasks that run on the host; pods are told in their environment.
            "execution_api_server_url": f"{settings.web.local_url}/execution/",
        },
        "database": {
            # Written out both: derived from each other they would need another driver.
            "sql_alchemy_conn": url("psycopg2"),
            "sql_alchemy_conn_async": url("psycopg"),
        },
        "api": {
            "host": LOOPBACK,
            "port": str(settings.web.port),
            "workers": "1",
            # Without it links are relative, and work under whatever name the host is reached.
            **({"base_url": settings.web.base_url} if settings.web.base_url else {}),
        },
        "dag_processor": {
            "dag_bundle_config_list": dags.bundles(settings),
            "dag_bundle_storage_path": f"$AIRFLOW_HOME/{BUNDLES}",
        },
        "kubernetes_executor": {
            "in_cluster": "False",
            "config_file": KUBECONFIG,
            "namespace": settings.kubernetes.namespace,
            "pod_template_file": POD_TEMPLATE,
            # The scheduler makes them one after the other and gives no heartbeat meanwhile: where
            # the cluster takes seconds for each, more would make it look dead.
            "worker_pods_creation_batch_size": "4",
            # A cluster that does not answer, or a full quota, makes a task wait, not fail.
            "task_publish_max_retries": "-1",
            **pod.options(settings),
        },
        "logging": logs.options(settings),
        "scheduler": {
            # Seconds between two looks for work; with the default of 1 a task waits half a second
            # for the next one on average.
            "scheduler_idle_sleep_time": "0.2",
            # A scheduler that was killed leaves finished pods to its successor, which looks for
            # them this often (seconds).
            "orphaned_tasks_check_interval": "60",
        },
        "usage_data_collection": {"enabled": "False"},
        # The cookie of the token is so by itself where the proxy says that it speaks TLS.
        **({"fab": {"cookie_secure": "True"}} if settings.web.is_public else {}),
    }
    for section, given in settings.airflow.config.items():
        wanted.setdefault(section, {}).update(given)
    return wanted
