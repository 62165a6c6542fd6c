"""What a DAG can't make the scheduler do, by classes in the places of Airflow's and SQLAlchemy's.

tests/host has the same with Airflow's own models.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from tests.unit.fake import FILES

MODULES = FILES / "usr/local/lib/airflow/python"
LARGEST = 2147483647  # https://www.postgresql.org/docs/current/datatype-numeric.html


class Integer:
    """SQLAlchemy's type of this name; so are the others."""


class BigInteger(Integer): ...


class String:
    def __init__(self, length: int | None = None) -> None:
        self.length = length


class Enum(String): ...


class Mapper: ...


def column(kind: Any) -> SimpleNamespace:
    return SimpleNamespace(type=kind)


COLUMNS = {
    **{name: column(String(256)) for name in ("queue", "pool")},
    **{name: column(Integer()) for name in ("pool_slots", "priority_weight", "max_tries")},
    "executor": column(String(1000)),
    "task_display_name": column(String(2000)),
}


@pytest.fixture
def listeners() -> list[tuple[Any, ...]]:
    """What the module lets SQLAlchemy call."""
    return []


@pytest.fixture
def columns(listeners: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The module that watches models, where neither Airflow nor SQLAlchemy is."""

    def listen(*args: Any, **options: Any) -> None:
        listeners.append((*args, options))

    kinds: dict[str, Any] = {each.__name__: each for each in (Integer, BigInteger, String, Enum)}
    model = SimpleNamespace(__table__=SimpleNamespace(columns=COLUMNS))
    owner = SimpleNamespace(__table__=SimpleNamespace(columns={"owner": column(String(500))}))
    stand_ins: dict[str, dict[str, Any]] = {
        "sqlalchemy": {**kinds, "event": SimpleNamespace(listen=listen)},
        "sqlalchemy.orm": {"Mapper": Mapper},
        "airflow": {},
        "airflow.models": {},
        "airflow.models.log": {"Log": owner},
        "airflow.models.taskinstance": {"TaskInstance": model},
    }
    for name, values in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return runpy.run_path(str(MODULES / "airflow_deploy_columns.py"))


@pytest.mark.parametrize(
    ("kind", "value", "held"),
    [
        (Integer(), LARGEST, LARGEST),
        (Integer(), LARGEST + 1, LARGEST),
        (Integer(), -LARGEST - 2, -LARGEST - 1),
        (Integer(), 1e10, LARGEST),
        (Integer(), None, None),
        (BigInteger(), LARGEST + 1, LARGEST + 1),
        (String(3), "abc", "abc"),
        (String(3), "äöüß", "äöü"),  # characters, not bytes
        (String(3), None, None),
        (String(), "abcd", "abcd"),  # text
        (Enum(3), "abcd", "abcd"),
        (object(), "abcd", "abcd"),
    ],
)
def test_a_value_fits_its_column(columns: dict[str, Any], kind: Any, value: Any, held: Any) -> None:
    assert columns["fitting"](kind, value) == held
    assert bool(columns["objection"]("it", kind, value)) is (held != value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"retries": 3, "queue": "x" * 256, "owner": "o" * 500}, ""),
        ({"retries": LARGEST + 1}, "retries is 2147483648, but Airflow's database holds numbers"),
        ({"pool_slots": LARGEST + 1}, "pool_slots is 2147483648"),
        ({"queue": "x" * 257}, "queue has 257 characters, but Airflow's database holds 256"),
        ({"pool": "x" * 257}, "pool has 257 characters"),
        ({"executor": "x" * 1001}, "executor has 1001 characters"),
        ({"task_display_name": "x" * 2001}, "task_display_name has 2001 characters"),
        ({"owner": "x" * 501}, "owner has 501 characters, but Airflow's database holds 500"),
    ],
)
def test_a_task_that_fits_no_column_is_refused(
    columns: dict[str, Any], values: dict[str, Any], words: str
) -> None:
    said = columns["objection_to_task"](SimpleNamespace(**values))
    assert said.startswith(words) if words else said == ""


class Task:
    """One of a chain, which begins at 0."""

    def __init__(self, place: int, length: int, weight: int, rule: Any) -> None:
        self.task_id, self.priority_weight, self.weight_rule = f"t{place}", weight, rule
        self.before = {f"t{each}" for each in range(place)}
        self.after = {f"t{each}" for each in range(place + 1, length)}

    def get_flat_relative_ids(self, *, upstream: bool) -> set[str]:
        return self.before if upstream else self.after


@pytest.mark.parametrize(
    ("weight", "rule", "words"),
    [
        (LARGEST // 2, "downstream", ""),
        (LARGEST // 2 + 1, "downstream", "priority_weight of t0 and of all tasks downstream of it"),
        (LARGEST // 2 + 1, SimpleNamespace(value="upstream"), "priority_weight of t1 and of all"),
        (-LARGEST, "upstream", "priority_weight of t1"),
        (LARGEST, "absolute", ""),
        (LARGEST, object(), ""),  # a plugin's own
    ],
)
def test_priorities_whose_sum_fits_no_column_are_refused(
    columns: dict[str, Any], weight: int, rule: Any, words: str
) -> None:
    tasks = [Task(place, 2, weight, rule) for place in range(2)]
    dag = SimpleNamespace(tasks=tasks, task_dict={each.task_id: each for each in tasks})
    said = columns["objection_to_weights"](dag)
    assert said.startswith(words) if words else said == ""


@pytest.mark.parametrize("table", ["task_instance", "dag_run", "variable"])
def test_models_of_what_the_scheduler_writes_are_watched(
    columns: dict[str, Any], listeners: list[tuple[Any, ...]], table: str
) -> None:
    columns["install"]()
    ((target, name, configured, _),) = listeners
    assert (target, name) == (Mapper, "mapper_configured")
    listeners.clear()
    attribute = SimpleNamespace(key="_shown", columns=[column(String(3))])
    model = SimpleNamespace(__tablename__=table, _shown="the attribute")
    configured(SimpleNamespace(column_attrs=[attribute]), model)
    if table == "variable":
        assert listeners == []
        return
    ((target, name, check, options),) = listeners
    assert (target, name, options) == ("the attribute", "set", {"retval": True})
    assert check(model, "abc", None, None) == "abc"
    if table == "dag_run":
        with pytest.raises(ValueError, match="_shown has 4 characters"):
            check(model, "abcd", None, None)
    else:
        assert check(model, "abcd", None, None) == "abc"


# In the place of Airflow's module, with the method as Airflow 3.3.2 has it, or as another one does.
SCHEDULER = """
class SchedulerJobRunner:
    def _try_to_load_executor(self, workload, session, {last}):
        return self.executor
"""


@pytest.fixture
def scheduler(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The class of the scheduler, imported as its process does."""
    package = tmp_path / "airflow/jobs"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    last = getattr(request, "param", "team_name=None")
    (package / "scheduler_job_runner.py").write_text(SCHEDULER.format(last=last))
    monkeypatch.syspath_prepend(str(tmp_path))
    with mock.patch.dict(sys.modules), mock.patch.object(sys, "meta_path", [*sys.meta_path]):
        for name in [each for each in sys.modules if each.partition(".")[0] == "airflow"]:
            del sys.modules[name]
        runpy.run_path(str(MODULES / "airflow_deploy_callbacks.py"))["install"]()
        yield importlib.import_module("airflow.jobs.scheduler_job_runner").SchedulerJobRunner()


class Session(list[Any]):
    add = list.append


def test_a_callback_that_no_executor_runs_fails(
    scheduler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.executor = SimpleNamespace(supports_callbacks=False)
    session, callback = Session(), SimpleNamespace(id=7, state="pending", output=None)
    assert scheduler._try_to_load_executor(callback, session, team_name=None) is None
    assert (callback.state, session) == ("failed", [callback])
    assert callback.output == "SimpleNamespace does not run callbacks"
    assert caplog.messages == ["Callback 7 fails: SimpleNamespace does not run callbacks"]


@pytest.mark.parametrize(
    ("executor", "workload"),
    [
        (SimpleNamespace(supports_callbacks=True), SimpleNamespace(state="pending", output=None)),
        (SimpleNamespace(supports_callbacks=False), SimpleNamespace(state="pending")),  # a task
        (None, SimpleNamespace(state="pending", output=None)),
    ],
)
def test_all_else_finds_its_executor(scheduler: Any, executor: Any, workload: Any) -> None:
    scheduler.executor, session = executor, Session()
    assert scheduler._try_to_load_executor(workload, session) is executor
    assert (workload.state, session) == ("pending", [])


@pytest.mark.parametrize("scheduler", ["another"], indirect=True)
def test_another_airflow_keeps_its_own(scheduler: Any, caplog: pytest.LogCaptureFixture) -> None:
    (warned,) = caplog.get_records("setup")
    assert "has no _try_to_load_executor as 3.3.2 has it" in warned.getMessage()
    scheduler.executor = SimpleNamespace(supports_callbacks=False)
    callback = SimpleNamespace(state="pending", output=None)
    assert scheduler._try_to_load_executor(callback, Session(), None) is scheduler.executor
