"""Airflow's configuration: airflow.cfg, the pod template, and the command line that uses them."""

from __future__ import annotations

import re
from io import StringIO

from pydantic import SecretStr
from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.airflow import venv
from tasks.host.database import DRIVERS, url
from tasks.layout import (
    API_SERVER_PORT,
    BUNDLES,
    CONFIG,
    CONTROL_USER,
    DAGS_ENV,
    DAGS_ENV_CANDIDATE,
    DAGS_USER,
    KUBECONFIG,
    LOGIN_CONFIG,
    LOOPBACK,
    PLUGINS,
    POD_TEMPLATE,
    ROOT,
)
from tasks.lib import manifests, progress, whole_file
from tasks.lib.operations import ensure, secret_file
from tasks.settings import HostSettings
from tasks.worker import dags, image, logs, plugins, pod, template, variables
from tasks.worker import options as pod_options

TEMPLATE = ROOT / "files/etc/airflow/airflow.cfg.j2"
# Options whose values may hold a secret, such as smtp_password, broker_url and transport.
SECRET_NAMES = r"pass|secret|token|key|cred|dsn|conn|auth|kwargs|header|url|backend|transport|user"


@deploy("Airflow")
def write(settings: HostSettings) -> None:
    """The host has Airflow's configuration, and the command line uses its version."""
    manifest = manifests.yaml_text(template.manifest(settings))
    pod.let_the_cluster_check(settings, manifest)
    logs.share(settings)
    _write_login(settings)
    secret_file(
        name="Write airflow.cfg",
        path=CONFIG,
        content=SecretStr(manifests.render(TEMPLATE, settings, options=options(settings))),
        group=DAGS_USER,
        mode="640",
        redacted=redacted,
    )
    ensure(
        name="Write pod_template.yaml",
        program="pod-image.sh",
        args=[image.reference(settings)],
        already="it is the one that the cluster checked, with its image's digest",
    )
    _write_variables(settings)
    if hidden := pod_options.hidden(settings):
        progress.print_at_end(
            f"airflow_config: {', '.join(hidden)} did not reach the task pods, since their manifest"
            " would show it. inventories/README.md says how pods get a secret option."
        )
    plugins.publish(settings)
    venv.switch(settings)


def _write_variables(settings: HostSettings) -> None:
    text = variables.file(settings)
    name = "Write the environment variables of DAGs"
    if variables.IN_FILE not in text:
        whole_file.put(
            name=name,
            src=StringIO(text),
            dest=DAGS_ENV,
            mode="644",
        )
        return
    whole_file.put(
        name="Write the variables of DAGs without the digest of their image",
        src=StringIO(text),
        dest=DAGS_ENV_CANDIDATE,
        mode="600",
    )
    ensure(
        name=name,
        program="dags-env.sh",
        args=[image.reference(settings)],
        already="they name the image as pods do",
    )


def _write_login(settings: HostSettings) -> None:
    if settings.web.login_config is None:
        files.file(name="Remove webserver_config.py", path=LOGIN_CONFIG, present=False)
        return
    secret_file(
        name="Write webserver_config.py",
        path=LOGIN_CONFIG,
        content=settings.web.login_config,
        group=CONTROL_USER,
        mode="640",
    )


def redacted(text: str) -> str:
    """airflow.cfg without the values that may be secret, for people who look at a diff."""
    lines, is_hidden = [], False
    for line in text.splitlines(keepends=True):
        if name := re.match(r"(\w+) = ", line):
            is_hidden = bool(re.search(SECRET_NAMES, name[1]))
            lines.append(f"{name[0]}(not shown)\n" if is_hidden else line)
        elif is_hidden and line.startswith(" "):
            lines.append("    (not shown)\n")
        else:
            lines.append(line)
    return re.sub(r"://[^/@\s]+@", "://(not shown)@", "".join(lines))


def options(settings: HostSettings) -> dict[str, dict[str, str]]:
    """airflow.cfg by section and option: those of the deploy, then those of the inventory.

    It holds no secret: units get theirs from their environment.
    Options and defaults: https://airflow.apache.org/docs/apache-airflow/3.3.2/configurations-ref.html
    """
    login = {
        # Airflow itself makes the token's cookie secure if the proxy says that it speaks TLS.
        **({"cookie_secure": "True"} if settings.web.is_public else {}),
        **({"config_file": LOGIN_CONFIG} if settings.web.login_config else {}),
    }
    wanted = {
        "core": {
            "executor": settings.airflow.executor,
            "auth_manager": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            "dags_folder": dags.folder_on_host(settings),
            "plugins_folder": PLUGINS,
            "might_contain_dag_callable": "airflow_deploy_files.might_contain_dag",
            "load_examples": "False",
            # For tasks that run on the host; pods are told in their environment.
            "execution_api_server_url": f"{settings.web.local_url}/execution/",
        },
        "database": {
            # Without a password.
            option.lower(): url(driver, settings)
            for option, driver in DRIVERS.items()
        },
        "api": {
            "host": LOOPBACK,
            "port": str(API_SERVER_PORT),
            "workers": "1",
            # Without it links are relative, and work under any name of the host.
            **({"base_url": settings.web.url} if settings.web.url else {}),
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
            # The scheduler makes pods one after the other and gives no heartbeat meanwhile: if the
            # cluster takes seconds for each, a larger batch would make it look dead.
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
        # Otherwise each process parses the list of all metrics to find the former name of its first
        # one, even if metrics go nowhere. This delays the first request to a new api-server by
        # seconds.
        **({} if settings.sends_metrics else {"metrics": {"legacy_names_on": "False"}}),
        **({"fab": login} if login else {}),
    }
    for section, given in settings.airflow.config.items():
        wanted.setdefault(section, {}).update(given)
    return wanted
