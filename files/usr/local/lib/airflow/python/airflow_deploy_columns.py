"""Values of DAGs fit into the columns of the database, so that they can't end the scheduler.

Airflow 3.3.2 copies values of a task as they are. PostgreSQL refuses those that are too large, and
the scheduler ends by that: after each start again, since the DAG is still there. The policy refuses
such a DAG where it is read, but the code of the DAG runs in that process and can change it. The
models are watched in each process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sized
from functools import partial, wraps
from typing import Any

from airflow.configuration import conf
from airflow_deploy_apart import NO_TEXT
from airflow_deploy_imports import replace, when_imported
from sqlalchemy import JSON, BigInteger, Enum, Integer, String, event
from sqlalchemy.orm import Mapper

LARGEST = 2**31 - 1  # of an integer in PostgreSQL; the smallest one is -LARGEST - 1
RANGE = f"Airflow's database holds numbers from {-LARGEST - 1} to {LARGEST}"
# The tables into which the scheduler writes what tasks and DAGs have.
SHORTENED = {"dag", "log", "task_instance", "task_instance_history"}
# The client that starts a run refers to it by its name, so that may not change. Airflow goes on
# after a ValueError where it makes a run. A backfill has the conf of its runs.
REFUSED = {"dag_run", "backfill"}
LONGEST_JSON = 1 << 18  # characters; the scheduler loads the conf of many runs at once
# Attributes of a task, each with the column of task_instance for it.
OF_TASKS = {
    **{name: name for name in ("queue", "pool", "pool_slots", "priority_weight", "executor")},
    "retries": "max_tries",
    "task_display_name": "task_display_name",
}


# Names of rights have 250 characters (ab_view_menu). Those for runs of a DAG begin with "DAG Run:".
LONGEST_ID = 242
MAPPING = "airflow.serialization.definitions.mappedoperator"


def fitting(kind: Any, value: Any) -> Any:
    """The value as a column of this type of SQLAlchemy holds it; mostly the value itself."""
    # Members of enumerations and expressions of SQL are Airflow's own, and have other types than
    # JSON has.
    if type(value) not in (bool, int, float, str, list, dict):
        return value
    if isinstance(kind, Integer) and not isinstance(kind, BigInteger):
        if type(value) not in (int, float):
            return int(value is True)
        return 0 if math.isnan(value) else min(max(value, -LARGEST - 1), LARGEST)
    if isinstance(kind, String) and not isinstance(kind, Enum):
        return NO_TEXT.sub("\ufffd", value if type(value) is str else str(value))[: kind.length]
    return value


def objection(name: str, kind: Any, value: Any) -> str:
    """Why a column of this type does not hold the value; empty if it does."""
    if isinstance(kind, JSON):
        length = len(json.dumps(value, ensure_ascii=False, default=str))
        if length > LONGEST_JSON:
            return (
                f"{name} has {length} characters as JSON, but the scheduler reads at most"
                f" {LONGEST_JSON}: pass the path of a file instead, or a key of an object store"
            )
        return ""
    if fitting(kind, value) == value:
        return ""
    if isinstance(kind, Integer):
        return f"{name} is {value}, but {RANGE}: choose one of these"
    if type(value) is not str or NO_TEXT.search(value):
        return f"{name} is no text that a database can hold: {value!r:.99}"
    return (
        f"{name} has {len(value)} characters, but Airflow's database holds {kind.length}: choose a"
        " shorter one"
    )


def objection_to_task(task: Any) -> str:
    """Why the database does not hold a task; empty if it does."""
    # Here, since Airflow loads the policy first. The dag-processor has loaded its models.
    from airflow.models.log import Log
    from airflow.models.taskinstance import TaskInstance

    columns = {name: TaskInstance.__table__.columns[column] for name, column in OF_TASKS.items()}
    columns["owner"] = Log.__table__.columns["owner"]
    for name, column in columns.items():
        if sentence := objection(name, column.type, getattr(task, name, None)):
            return sentence
    return ""


def objection_to_id(dag: Any) -> str:
    """Why the rights of people can't name a DAG; empty if they can."""
    if len(dag.dag_id) <= LONGEST_ID:
        return ""
    return (
        f"dag_id has {len(dag.dag_id)} characters, but Airflow's table of rights has room for"
        f" {LONGEST_ID}: choose a shorter one"
    )


def objection_to_weights(dag: Any) -> str:
    """Why the database does not hold a sum of priorities, which Airflow makes of those of a task
    and of all that follow it, or precede it; empty if it does."""
    if sum(abs(task.priority_weight) for task in dag.tasks) <= LARGEST:
        return ""  # For nearly all DAGs: the sums below take long for a large one.
    for task in dag.tasks:
        rule = getattr(task.weight_rule, "value", task.weight_rule)
        if rule not in ("downstream", "upstream"):
            continue
        others = task.get_flat_relative_ids(upstream=rule == "upstream")
        total = sum(dag.task_dict[name].priority_weight for name in {task.task_id, *others})
        if not -LARGEST - 1 <= total <= LARGEST:
            return (
                f"priority_weight of {task.task_id} and of all tasks {rule} of it add up to"
                f" {total}, but {RANGE}: choose smaller ones, or weight_rule='absolute'"
            )
    return ""


def most_of_a_task() -> int:
    """Into how many task instances one task may be mapped. Airflow limits each list that a task
    pushes, but neither others nor the product of several."""
    return 10 * int(conf.getint("core", "max_map_length"))


def too_many(name: str, count: int) -> str:
    """Why a task is not mapped into so many; empty if it is."""
    most = most_of_a_task()
    if count <= most:
        return ""
    return (
        f"{name} is mapped into {count} task instances, but the scheduler makes at most {most} of a"
        " task: map it over less, or set max_map_length of the section core to more than"
        f" {most // 10}"
    )


def objection_to_mapping(dag: Any) -> str:
    """Why the scheduler does not make the task instances of a DAG; empty if it does."""
    for task in dag.tasks:
        inputs = [group._expand_input for group in task.iter_mapped_task_groups()]
        if task.is_mapped:
            inputs.append(task._get_specified_expand_input())
        count = 1
        for each in inputs:
            lists = each.value.values() if isinstance(each.value, dict) else [each.value]
            # The others are results of tasks.
            count *= math.prod(max(1, len(some)) for some in lists if isinstance(some, Sized))
        if sentence := too_many(task.task_id, count):
            return sentence
    return ""


def get_mapped_ti_count(own: Any) -> Any:
    """The number of a task's instances, if the scheduler may make so many."""

    @wraps(own)
    def replaced(task: Any, run_id: str, *, session: Any) -> int:
        found: int = own(task, run_id, session=session)
        if sentence := too_many(task.node_id, found):
            raise ValueError(sentence)
        return found

    return replaced


def limit_mapping(module: Any) -> None:
    """Let no process make more, also where the lists come from other tasks."""
    harm = "A task that is mapped into many may end the scheduler"
    replace(module, "get_mapped_ti_count", "task run_id session", get_mapped_ti_count, harm)


def _shorten(kind: Any, target: Any, value: Any, *rest: Any) -> Any:
    return fitting(kind, value)


def _refuse(name: str, kind: Any, target: Any, value: Any, *rest: Any) -> Any:
    if sentence := objection(name, kind, value):
        raise ValueError(sentence)
    return value


def watch(mapper: Any, model: Any) -> None:
    """Let a model of SQLAlchemy hold only values that its table does."""
    table = getattr(model, "__tablename__", "")
    if table not in SHORTENED | REFUSED:
        return
    for attribute in mapper.column_attrs:
        name, kind = attribute.key, attribute.columns[0].type
        check = partial(_refuse, name, kind) if table in REFUSED else partial(_shorten, kind)
        event.listen(getattr(model, name), "set", check, retval=True)


def install() -> None:
    """Watch Airflow's models, which this process loads later, and limit mapped tasks."""
    event.listen(Mapper, "mapper_configured", watch)
    when_imported(MAPPING, limit_mapping)
