"""The scheduler and the api-server make only plain objects of what tasks send them.

A task that waits for a person names arguments for its return, each with a class of any name that
begins with airflow. Airflow 3.3.2 makes such objects where it adds the answer, and in a response to
an old version of its API. The triggerer, which runs code of DAGs, still does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from airflow_deploy_imports import replace, when_imported

HARM = "A task may let a service make objects of its choice"
# These import the function that adds an answer. The triggerer calls it where it is.
ANSWERS = (
    "airflow.jobs.scheduler_job_runner",
    "airflow.api_fastapi.core_api.routes.public.hitl",
    "airflow.api_fastapi.execution_api.routes.task_instances",
)
OLD_VERSION = "airflow.api_fastapi.execution_api.versions.v2026_04_06"
# Python's own classes and those of its times, by their packages or by their former short names.
PACKAGES = {"builtins", "datetime", "decimal", "pendulum", "uuid", "zoneinfo"}
SHORT = {"dict", "set", "tuple", "timedelta", "timezone"}
log = logging.getLogger(__name__)


def classes(value: Any) -> Iterator[str]:
    """The names of classes in JSON that Airflow makes objects of."""
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, dict):
            yield from (str(each[key]) for key in ("__classname__", "__type") if key in each)
            rest += each.values()
        elif isinstance(each, list | tuple):
            rest += each


def foreign(value: Any) -> str:
    """A class in JSON that is not plain; empty if there is none."""
    for name in classes(value):
        if name.partition(".")[0] not in PACKAGES | SHORT:
            return name
    return ""


def handle_event_submit(own: Any) -> Any:
    """A task whose arguments are plain goes on with an answer; another one fails."""

    def replaced(event: Any, *, task_instance: Any, session: Any) -> None:
        if name := foreign(task_instance.next_kwargs):
            log.error("%s fails: its next_kwargs have an object of %s", task_instance, name)
            # Airflow lets a task fail with arguments of a type that it does not know, and names it.
            # It would import a name that begins with airflow.
            sentence = f"object of {name}, which may not be among the arguments for an answer"
            task_instance.next_kwargs = {"__type": sentence, "__var": {}}
        own(event, task_instance=task_instance, session=session)

    return replaced


def transformer(own: Any) -> Any:
    """The arguments of a task for an old worker; those that are not plain stay as they are."""

    def replaced(response: Any) -> None:
        if not foreign(response.body.get("next_kwargs")):
            own(response)

    return replaced


def change_answers(module: Any) -> None:
    """Add answers only to plain arguments."""
    parameters = "event task_instance session"
    replace(module, "handle_event_submit", parameters, handle_event_submit, HARM)


def change_old_version(module: Any) -> None:
    """Convert only plain arguments."""
    version = getattr(module, "ModifyDeferredTaskKwargsToJsonValue", None)
    conversion = getattr(version, "convert_next_kwargs_to_base_serialization", None)
    replace(conversion, "transformer", "response", transformer, HARM)


def install() -> None:
    """Wait for the modules of the services."""
    for name in ANSWERS:
        when_imported(name, change_answers)
    when_imported(OLD_VERSION, change_old_version)
