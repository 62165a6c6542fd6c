"""The scheduler and the api-server make only plain objects of what tasks and DAGs send them.

A task that waits for a person names arguments for its return, each with a class of any name that
begins with airflow. Airflow 3.3.2 makes such objects where it adds the answer, and in a response to
an old version of its API. The triggerer, which runs code of DAGs, still does. Where a run begins,
the scheduler makes the deadlines of its DAG in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any

from airflow_deploy_imports import replace, when_imported

HARM = "A task or a DAG may let a service make objects of its choice"
# These import the function that adds an answer. The triggerer calls it where it is.
ANSWERS = (
    "airflow.jobs.scheduler_job_runner",
    "airflow.api_fastapi.core_api.routes.public.hitl",
    "airflow.api_fastapi.execution_api.routes.task_instances",
)
OLD_VERSION = "airflow.api_fastapi.execution_api.versions.v2026_04_06"
# These import the function that reads a deadline.
ROWS = ("airflow.serialization.definitions.dag", "airflow.serialization.serialized_objects")
# Python's own classes and those of its times, by their packages or by their former short names.
PACKAGES = {"builtins", "datetime", "decimal", "pendulum", "uuid", "zoneinfo"}
SHORT = {"dict", "set", "tuple", "timedelta", "timezone"}
# The callbacks and the intervals of deadlines, beside a timedelta.
OF_DEADLINES = {
    "airflow.sdk.definitions.callback.AsyncCallback",
    "airflow.sdk.definitions.callback.SyncCallback",
    "airflow.sdk.definitions.deadline.VariableInterval",
    "airflow.serialization.definitions.deadline.SerializedVariableInterval",
}
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


def foreign(value: Any, allowed: Collection[str] = ()) -> str:
    """A class in JSON that is neither plain nor allowed; empty if there is none."""
    for name in classes(value):
        if name.partition(".")[0] not in PACKAGES | SHORT and name not in allowed:
            return name
    return ""


def objection(encoded: Any) -> str:
    """Why the scheduler makes no deadline of this JSON; empty if it does. The class of a reference
    is one of Airflow's references or of a plugin's in any case."""
    name = foreign([encoded["interval"], encoded["callback"]], OF_DEADLINES)
    return name and (
        f"a deadline has an object of {name}: give the arguments of its callback as text, numbers,"
        " times, lists and dictionaries"
    )


def objection_to_deadline(alert: Any) -> str:
    """The same for the deadline of a DAG that is read."""
    # Here, since few processes read DAGs; these have loaded it.
    from airflow.serialization.encoders import encode_deadline_alert

    return objection(encode_deadline_alert(alert))


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


def decode_deadline_alert(own: Any) -> Any:
    """A deadline of plain objects; an exception for another one."""

    def replaced(encoded_data: Any) -> Any:
        if sentence := objection(encoded_data.get("__var", encoded_data)):
            raise TypeError(sentence)
        return own(encoded_data)

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


def change_rows(module: Any) -> None:
    """Make only deadlines of plain objects."""
    replace(module, "decode_deadline_alert", "encoded_data", decode_deadline_alert, HARM)


def install() -> None:
    """Wait for the modules of the services."""
    for name in ANSWERS:
        when_imported(name, change_answers)
    when_imported(OLD_VERSION, change_old_version)
    for name in ROWS:
        when_imported(name, change_rows)
