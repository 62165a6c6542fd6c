"""Where task logs are kept, so that the web page shows them while a pod runs and afterwards."""

from __future__ import annotations

from tasks.pods import Volume, host_folder
from tasks.settings import Settings

FOLDER = "/var/log/airflow"


def options(settings: Settings) -> dict[str, str]:
    """The section logging of airflow.cfg."""
    return {
        "base_log_folder": FOLDER,
        "dag_processor_child_process_log_directory": f"{FOLDER}/dag_processor",
    }


def environment(settings: Settings) -> dict[str, str]:
    """What a pod is told about logs."""
    return {"AIRFLOW__LOGGING__BASE_LOG_FOLDER": FOLDER}


def volume(settings: Settings) -> Volume:
    """What a pod mounts to leave its log where the web page finds it."""
    return host_folder("logs", FOLDER)
