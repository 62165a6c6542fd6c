"""What a DAG gives to the database fits into its columns, so that it can't end the scheduler.

Airflow 3.3.2 copies values of a task as they are. PostgreSQL refuses those that are too large, and
the scheduler ends by that: after each start again, since the DAG is still there. The policy refuses
such a DAG where it is read, but the code of the DAG runs in that process and can change it. The
models are watched in each process.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import BigInteger, Enum, Integer, String, event
from sqlalchemy.orm import Mapper

LARGEST = 2**31 - 1  # of an integer in PostgreSQL; the smallest one is -LARGEST - 1
RANGE = f"Airflow's database holds numbers from {-LARGEST - 1} to {LARGEST}"
# The tables into which the scheduler writes what tasks and DAGs have.
SHORTENED = {"dag", "log", "task_instance", "task_instance_history"}
# Whoever starts a run knows it by its name, so that may not change. Airflow goes on after a
# ValueError where it makes a run.
REFUSED = {"dag_run"}
# Attributes of a task, each with the column of task_instance for it.
OF_TASKS = {
    **{name: name for name in ("queue", "pool", "pool_slots", "priority_weight", "executor")},
    "retries": "max_tries",
    "task_display_name": "task_display_name",
}


def fitting(kind: Any, value: Any) -> Any:
    """What a column of this type of SQLAlchemy holds of the value; mostly the value itself."""
    # Members of enumerations and expressions of SQL are Airflow's own, and have other types.
    is_small = isinstance(kind, Integer) and not isinstance(kind, BigInteger)
    if is_small and type(value) in (int, float):
        return min(max(value, -LARGEST - 1), LARGEST)
    is_text = isinstance(kind, String) and not isinstance(kind, Enum)
    if is_text and type(value) is str:
        return value[: kind.length]
    return value


def objection(name: str, kind: Any, value: Any) -> str:
    """Why a column of this type does not hold the value; empty if it does."""
    if fitting(kind, value) == value:
        return ""
    if isinstance(kind, Integer):
        return f"{name} is {value}, but {RANGE}: choose one of these"
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
    """Watch Airflow's models, which this process loads later."""
    event.listen(Mapper, "mapper_configured", watch)
