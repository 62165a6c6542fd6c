"""The place of task logs, so that the web page shows them while a pod runs and afterwards.

While a pod runs, the web page asks the cluster. Afterwards it reads the file that the pod left in a
folder which both see, or the copy that the pod uploaded at its end.
"""

from __future__ import annotations

from tasks.layout import DAG_PROCESSOR_LOGS, DAGS_USER, LOGS, NODE_LOGS
from tasks.lib.manifests import Volume, claimed, host_folder
from tasks.lib.operations import ensure
from tasks.settings import HostSettings
from tasks.settings.types import S3Logs

# The name of a task's log, which the scheduler gives to the pod. It is Airflow's own, except for
# ids whose folder would have a name of more than 255 bytes, which no file system has: they become
# several folders, of at most 60 characters each.
FILE = (
    "{% macro folder(name, id) %}{{ name }}="
    "{% if id.encode()|length <= 247 %}{{ id }}{% else %}"
    "{% for part in id|batch(60) %}{{ '' if loop.first else '/' }}{{ part|join }}{% endfor %}"
    "{% endif %}/{% endmacro %}"
    "{{ folder('dag_id', ti.dag_id) }}{{ folder('run_id', ti.run_id) }}"
    "{{ folder('task_id', ti.task_id) }}"
    "{% if ti.map_index >= 0 %}map_index={{ ti.map_index }}/{% endif %}"
    "attempt={{ try_number|default(ti.try_number) }}.log"
)


def host_path(settings: HostSettings) -> str:
    """The folder on the host in which the web page finds the logs of pods."""
    return settings.logs.claim.host_path if settings.logs.claim else LOGS


def options(settings: HostSettings) -> dict[str, str]:
    """The section logging of airflow.cfg."""
    return {
        "base_log_folder": host_path(settings),
        "dag_processor_child_process_log_directory": DAG_PROCESSOR_LOGS,
        "log_filename_template": FILE,
        **_remote(settings.logs.s3),
    }


def environment(settings: HostSettings) -> dict[str, str]:
    """A pod's variables about logs."""
    wanted = {"base_log_folder": LOGS, **_remote(settings.logs.s3)}
    return {f"AIRFLOW__LOGGING__{name.upper()}": value for name, value in wanted.items()}


def volumes(settings: HostSettings) -> list[Volume]:
    """The volumes in which a pod leaves its log for the web page."""
    if settings.logs.claim:
        return [claimed("logs", settings.logs.claim, LOGS)]
    # A pod that is killed uploads nothing to a store. If the node sees the host's folder, the web
    # page still finds the log there.
    if settings.logs.store == "s3" and not settings.node_sees_folders:
        return [Volume({"name": "logs", "emptyDir": {}}, {"name": "logs", "mountPath": LOGS})]
    return [host_folder("logs", LOGS, of_node=NODE_LOGS if settings.node_engine else LOGS)]


def share(settings: HostSettings) -> None:
    """Tasks of all users can write beside each other's logs, if they have the group of the folder:
    pods of another user, and tasks on the host, which run as the scheduler's user.

    Airflow wants new folders to be writable for their group, but the umask is against it. Where
    pods write to a claim, whose storage may have no ACLs, the worker image has another umask.
    """
    if settings.logs.claim and not settings.airflow.tasks_on_host:
        return
    ensure(
        name="Let tasks of all users write logs beside each other's",
        program="acl.py",
        args=[host_path(settings), f"g:{DAGS_USER}:rwX"],
        already="their group may write to everything that is made there",
    )


def _remote(logs: S3Logs | None) -> dict[str, str]:
    """Options of a log store; its credentials come with the connection, over the Execution API."""
    if logs is None:
        return {}
    return {
        "remote_logging": "True",
        "remote_base_log_folder": logs.folder,
        "remote_log_conn_id": logs.connection,
    }
