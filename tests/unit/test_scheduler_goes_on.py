"""What DAGs and tasks can't make services do, by classes in the places of others' own.

tests/host has the same with Airflow's own models.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import MaxRetryError, ProtocolError

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


class JSON: ...


class Mapper: ...


class Timetable: ...


KINDS = (Integer, BigInteger, String, Enum, JSON)


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


class OperationalError(Exception): ...


class DBAPIError(Exception): ...


@pytest.fixture
def modules(
    listeners: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The deploy's modules can be imported, where neither Airflow nor SQLAlchemy is. Returns the
    folder of a package airflow."""

    def listen(*args: Any, **options: Any) -> None:
        listeners.append((*args, options))

    kinds: dict[str, Any] = {each.__name__: each for each in KINDS}
    model = SimpleNamespace(__table__=SimpleNamespace(columns=COLUMNS))
    owner = SimpleNamespace(__table__=SimpleNamespace(columns={"owner": column(String(500))}))
    conf = SimpleNamespace(getint=lambda section, name: 4)
    stand_ins: dict[str, dict[str, Any]] = {
        "sqlalchemy": {**kinds, "event": SimpleNamespace(listen=listen)},
        "sqlalchemy.orm": {"Mapper": Mapper},
        "sqlalchemy.exc": {"DBAPIError": DBAPIError, "OperationalError": OperationalError},
        "airflow": {"__path__": [str(tmp_path / "airflow")]},
        "airflow.configuration": {"conf": conf},
        "airflow.models": {},
        "airflow.models.log": {"Log": owner},
        "airflow.models.taskinstance": {"TaskInstance": model},
        "airflow.timetables": {},
        "airflow.timetables.base": {"Timetable": Timetable},
    }
    for path in (tmp_path, MODULES):
        monkeypatch.syspath_prepend(str(path))
    with mock.patch.dict(sys.modules), mock.patch.object(sys, "meta_path", [*sys.meta_path]):
        for name, values in stand_ins.items():
            module = sys.modules[name] = ModuleType(name)
            vars(module).update(values)
        yield tmp_path / "airflow"


@pytest.fixture
def columns(modules: Path) -> dict[str, Any]:
    """The module that watches models."""
    return vars(importlib.import_module("airflow_deploy_columns"))


@pytest.fixture
def apart(modules: Path) -> Any:
    """The module that handles each part alone."""
    return importlib.import_module("airflow_deploy_apart")


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
        # Of a DAG that was changed in the database: other values than Airflow's own.
        (Integer(), "1", 0),
        (Integer(), [1], 0),
        (Integer(), float("nan"), 0),
        (String(9), "a\0b\ud800", "a\ufffdb\ufffd"),
        (String(9), ["y"], "['y']"),
        (String(9), 7, "7"),
        (Enum(3), "abcd", "abcd"),
        (object(), "abcd", "abcd"),
    ],
)
def test_a_value_fits_its_column(columns: dict[str, Any], kind: Any, value: Any, held: Any) -> None:
    assert columns["fitting"](kind, value) == held
    assert bool(columns["objection"]("it", kind, value)) is (held != value)


@pytest.mark.parametrize(
    ("value", "is_held"),
    [
        (None, True),
        ({"a": "x" * (2**18 - 9)}, True),
        ({"a": "x" * (2**18 - 8)}, False),
        (["\u00fc" * (2**18 - 4)], True),  # characters, not bytes
        ({"a": object()}, True),  # SQLAlchemy refuses it later
    ],
)
def test_json_for_the_scheduler_is_not_too_long(
    columns: dict[str, Any], value: Any, is_held: bool
) -> None:
    said = columns["objection"]("conf", JSON(), value)
    assert said == ("" if is_held else said)
    assert is_held or said.startswith("conf has 262145 characters as JSON, but the scheduler reads")


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
        ({"queue": "a\0b"}, r"queue is no text that a database can hold: 'a\x00b'"),
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


@pytest.mark.parametrize(
    ("count", "words"),
    [(242, ""), (243, "dag_id has 243 characters, but Airflow's table of rights")],
)
def test_a_dag_whose_rights_have_no_name_is_refused(
    columns: dict[str, Any], count: int, words: str
) -> None:
    said = columns["objection_to_id"](SimpleNamespace(dag_id="x" * count))
    assert said.startswith(words) if words else said == ""


@pytest.mark.parametrize("table", ["task_instance", "dag_run", "backfill", "variable"])
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
    if table in ("dag_run", "backfill"):
        with pytest.raises(ValueError, match="_shown has 4 characters"):
            check(model, "abcd", None, None)
    else:
        assert check(model, "abcd", None, None) == "abc"


class Mapped:
    """A task that is mapped, alone and in groups."""

    def __init__(self, own: Any, *groups: Any) -> None:
        self.task_id, self.is_mapped, self._own = "t", own is not None, own
        self.groups = [
            SimpleNamespace(_expand_input=SimpleNamespace(value=each)) for each in groups
        ]

    def iter_mapped_task_groups(self) -> Iterator[Any]:
        return iter(self.groups)

    def _get_specified_expand_input(self) -> Any:
        return SimpleNamespace(value=self._own)


@pytest.mark.parametrize(
    ("task", "count"),
    [
        (Mapped(None), 0),
        (Mapped([{}] * 40), 0),
        (Mapped([{}] * 41), 41),
        (Mapped({"a": [0] * 40, "b": object(), "c": []}), 0),  # b is the result of a task
        (Mapped({"a": [0] * 7, "b": [0] * 6}), 42),
        (Mapped(None, {"a": [0] * 7}, {"b": [0] * 6}), 42),
        (Mapped({"a": [0] * 7}, {"b": [0] * 6}), 42),
    ],
)
def test_a_dag_with_too_many_mapped_tasks_is_refused(
    columns: dict[str, Any], task: Mapped, count: int
) -> None:
    said = columns["objection_to_mapping"](SimpleNamespace(tasks=[task]))
    assert said.startswith(f"t is mapped into {count} task instances") if count else said == ""
    assert not count or ("makes at most 40 of a task" in said and "more than 4" in said)


def test_nobody_makes_more(columns: dict[str, Any]) -> None:
    module = SimpleNamespace(get_mapped_ti_count=lambda task, run_id, *, session: session)
    columns["limit_mapping"](module)
    task = SimpleNamespace(node_id="group.t")
    assert module.get_mapped_ti_count(task, "run", session=40) == 40
    with pytest.raises(ValueError, match=r"group.t is mapped into 41 task instances"):
        module.get_mapped_ti_count(task, "run", session=41)


# In the place of Airflow's module, with the method as Airflow 3.3.2 has it, or as another one does.
SCHEDULER = """
class SchedulerJobRunner:
    def _try_to_load_executor(self, workload, session, {last}):
        return self.executor
"""


@pytest.fixture
def scheduler(modules: Path, request: pytest.FixtureRequest) -> Any:
    """The class of the scheduler, imported as its process does."""
    package = modules / "jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    last = getattr(request, "param", "team_name=None")
    (package / "scheduler_job_runner.py").write_text(SCHEDULER.format(last=last))
    importlib.import_module("airflow_deploy_callbacks").install()
    return importlib.import_module("airflow.jobs.scheduler_job_runner").SchedulerJobRunner()


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


# Each part alone


class Point:
    """A savepoint of a session."""

    def __init__(self, session: Sessions) -> None:
        self.session, self.broken = session, False

    def commit(self) -> None:
        if self.broken:
            raise RuntimeError("This Session's transaction has been rolled back")
        self.session.said.append("release")
        self.session.point = None

    def rollback(self) -> None:
        self.session.said.append("undo")
        self.session.point = None


class Sessions:
    """A session of SQLAlchemy."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.point: Point | None = None

    def begin_nested(self) -> Point:
        self.point = Point(self)
        return self.point

    def get_nested_transaction(self) -> Point | None:
        return self.point

    def in_nested_transaction(self) -> bool:
        return self.point is not None

    def rollback(self) -> None:
        self.said.append("rollback")
        self.point = None

    def add(self, item: Any) -> None:
        self.said.append(item)


def dag(name: str) -> SimpleNamespace:
    return SimpleNamespace(dag_id=name)


@pytest.mark.parametrize("handles_it", [True, False])
def test_a_dag_whose_run_fails_is_left_out(
    apart: Any, handles_it: bool, caplog: pytest.LogCaptureFixture
) -> None:
    session, done = Sessions(), []

    def own(self: Any, dag_models: list[Any], session: Any) -> None:
        for each in dag_models:
            if each.dag_id == "bad" and not handles_it:
                raise ValueError("a bad row")
            # Airflow catches the database's exception, and the session stays broken.
            session.point.broken |= each.dag_id == "bad"
            done.append(each.dag_id)

    replaced = apart.create_dag_runs(own)
    replaced(
        None, {"first": dag("first"), "bad": dag("bad"), "last": dag("last")}.values(), session
    )
    assert session.point is None and session.said.count("release") == 2
    assert {"first", "last"} <= set(done)
    assert caplog.messages == ["DAG bad is left out"]
    # The same exception comes again within a moment.
    replaced(None, [dag("bad")], session)
    assert session.point is None and caplog.messages == ["DAG bad is left out"]


def test_airflow_tries_again_when_the_database_is_away(apart: Any) -> None:
    def own(*args: Any, **options: Any) -> None:
        raise OperationalError

    event = SimpleNamespace(get_event_buffer=lambda: {"key": ("failed", None)})
    scanned: Any = classmethod(own)
    calls: list[Callable[[], Any]] = [
        lambda: apart.create_dag_runs(own)(None, [dag("a"), dag("b")], Sessions()),
        lambda: apart.create_dag_runs_asset_triggered(own)(
            None, dag_models=[dag("a")], session=Sessions()
        ),
        lambda: apart.create_dagruns_for_partitioned_asset_dags(own)(None, Sessions()),
        lambda: apart.schedule_dag_run(own)(None, dag("a"), Sessions()),
        lambda: apart.process_executor_events(scanned).__func__(None, event, 1, None, Sessions()),
        lambda: apart.purge_task_instances_without_heartbeats(own)(None, ["a"], session=Sessions()),
        lambda: apart.adopt_or_reset_orphaned_tasks(own)(None),
        lambda: apart.handle_miss(own)(dag("a"), Sessions()),
        lambda: apart.update_dag_parsing_results_in_db(own)(
            bundle_name="b", files_parsed=set(), session=Sessions(), import_errors={}
        ),
    ]
    for call in calls:
        with pytest.raises(OperationalError):
            call()


def test_a_run_that_the_database_refuses_fails_alone(apart: Any) -> None:
    """Airflow's loop goes on after all exceptions but DBAPIError."""

    def own(self: Any, dag_run: Any, session: Any) -> str:
        if dag_run == "bad":
            raise DBAPIError
        return f"{dag_run} is scheduled"

    session = Sessions()
    replaced = apart.schedule_dag_run(own)
    assert replaced(None, "good", session) == "good is scheduled"
    with pytest.raises(RuntimeError, match="the database refused"):
        replaced(None, "bad", session)
    assert session.said == ["release", "undo"]


def test_tasks_that_ended_are_handled_one_by_one(
    apart: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Runner:
        @classmethod
        def process(cls, executor: Any, job_id: Any, bag: Any, session: Any) -> int:
            ((key, _),) = executor.get_event_buffer().items()
            assert executor.name == str(executor) == "Kubernetes"
            if key == "bad":
                raise ValueError(key)
            session.add(key)
            return 1

        def purge(self, tasks: list[str], *, session: Any) -> None:
            assert len(tasks) == 1
            session.add(tasks[0] * (1 if tasks[0] != "bad" else None))  # type: ignore[operator]

    class Executor:
        name = "Kubernetes"

        def __str__(self) -> str:
            return self.name

        def get_event_buffer(self) -> dict[str, tuple[str, None]]:
            return dict.fromkeys(("first", "bad", "last"), ("failed", None))

    process: Any = apart.process_executor_events(vars(Runner)["process"]).__func__
    session = Sessions()
    assert process(Runner, Executor(), job_id=1, scheduler_dag_bag=None, session=session) == 2
    assert session.said == ["first", "rollback", "last"]
    session.said.clear()
    apart.purge_task_instances_without_heartbeats(Runner.purge)(
        Runner(), ["first", "bad", "last"], session=session
    )
    assert session.said == ["first", "rollback", "last"]
    assert caplog.messages == ["The end of task bad is left out"]


def test_deadlines_partitions_and_timers_that_fail_end_nothing(apart: Any) -> None:
    def own(*args: Any, **options: Any) -> None:
        raise ValueError

    session = Sessions()
    deadline = SimpleNamespace(id=7, missed=False)
    apart.handle_miss(own)(deadline, session)
    assert deadline.missed and session.said == ["undo", deadline]
    assert apart.create_dagruns_for_partitioned_asset_dags(own)(None, session) == set()
    assert apart.adopt_or_reset_orphaned_tasks(own)(None) == 0
    called: list[Any] = []
    apart.call_regular_interval(lambda *args, **options: called.append((args, options)))(
        None, 5.0, print
    )
    assert called == [((None, 5.0, print, (), None), {"non_fatal": True})]


def test_the_end_of_a_savepoint_is_no_commit(apart: Any) -> None:
    session, said = Sessions(), []
    guard = SimpleNamespace(session=session)
    check = apart.validate_commit(lambda self, _: said.append("commit"))
    session.begin_nested()
    check(guard, session)
    assert said == []
    session.rollback()
    check(guard, session)
    assert said == ["commit"]


class Read:
    """What Airflow makes of a row: a DAG, or a task of one."""

    task_id, timetable = "t", Timetable()

    def __init__(self, **values: Any) -> None:
        self.tasks: list[Any] = []
        vars(self).update(values)

    def has_task(self) -> None: ...


def read(**values: Any) -> Callable[[], Read]:
    """A DAG of one task that has these values."""
    return lambda: Read(tasks=[Read(**values)])


@pytest.mark.parametrize(
    ("dag", "is_none"),
    [
        (read(), False),
        (read(max_active_tis_per_dag=3), False),
        (read(max_active_tis_per_dag=2.0, timetable=5), False),
        (read(max_active_tis_per_dag="x"), True),
        (read(has_task=5), True),
        (lambda: Read(has_task=5), True),
        (lambda: Read(timetable=5), True),
        (lambda: Read(timetable=None), True),
        (lambda: Read(tasks=5), True),
        (lambda: 1 / 0, True),
    ],
)
def test_a_dag_that_cannot_be_read_is_none(apart: Any, dag: Any, is_none: bool) -> None:
    def own(self: Any, serdag: Any) -> Any:
        self._dags[serdag.dag_version_id] = "kept"
        return serdag.dag()

    bag = SimpleNamespace(_dags={})
    serdag = SimpleNamespace(dag_id="d", dag_version_id=1, dag=dag)
    found = apart.read_dag(own)(bag, serdag)
    assert (found is None, bag._dags) == (is_none, {} if is_none else {1: "kept"})
    assert apart.read_dag(lambda self, serdag: None)(bag, serdag) is None


class Condition:
    """A condition of assets, with names of each kind."""

    def __init__(self, *refs: Any, name: Any = "a", uri: Any = "s3://a", alias: Any = "b") -> None:
        self.refs, self.name, self.uri, self.alias = refs, name, uri, alias

    def iter_assets(self) -> Iterator[Any]:
        yield SimpleNamespace(name=self.name, uri=self.uri), "the asset"

    def iter_asset_aliases(self) -> Iterator[Any]:
        yield self.alias, "the alias"

    def iter_asset_refs(self) -> Iterator[Any]:
        yield from self.refs


@pytest.mark.parametrize(
    ("condition", "is_read"),
    [
        (Condition(SimpleNamespace(name="c"), SimpleNamespace(uri="s3://d")), True),
        (Condition(SimpleNamespace(name=5)), False),
        (Condition(SimpleNamespace(name=None)), False),
        (Condition(SimpleNamespace(uri=["s3://d"])), False),
        (Condition(SimpleNamespace(uri="\0")), False),
        (Condition(alias=5), False),
        (Condition(name={}), False),
        (Condition(uri=5), False),
        (5, False),
    ],
)
def test_runs_of_assets_are_for_dags_that_can_be_read(
    apart: Any, condition: Any, is_read: bool
) -> None:
    row = SimpleNamespace(
        dag_id="d", dag=SimpleNamespace(timetable=SimpleNamespace(asset_condition=condition))
    )
    bad = SimpleNamespace(dag_id="bad", dag=5)

    class Model:
        @classmethod
        def latest(cls, *, dag_ids: list[str], session: Any) -> list[Any]:
            return [row, bad]

    Model.latest = apart.get_latest_serialized_dags(vars(Model)["latest"])  # type: ignore[method-assign]
    assert Model.latest(dag_ids=["d", "bad"], session=None) == ([row] if is_read else [])


def test_a_file_that_the_database_refuses_is_an_import_error(apart: Any) -> None:
    session, calls = Sessions(), []

    def own(**options: Any) -> None:
        calls.append(options)
        if options["dags"]:
            raise RuntimeError("unsupported \0 Unicode")

    place = ("dags-folder", "bad.py")
    apart.update_dag_parsing_results_in_db(own)(
        bundle_name="dags-folder",
        files_parsed={place},
        session=session,
        dags=["a DAG"],
        warnings={"one"},
        import_errors={},
        parse_duration=1,
    )
    assert session.said == ["rollback"] and len(calls) == 2
    assert calls[1]["dags"] == [] and calls[1]["warnings"] == set()
    assert calls[1]["parse_duration"] == 1 and calls[1]["session"] is session
    said = calls[1]["import_errors"][place]
    assert "can't hold what is in this file" in said and said.endswith("unsupported \ufffd Unicode")
    # An error of its own, in whose text that character is.
    apart.update_dag_parsing_results_in_db(own)(
        bundle_name="dags-folder",
        files_parsed={place},
        session=session,
        dags=["a DAG"],
        import_errors={place: "ValueError: x\0y"},
    )
    assert calls[3]["import_errors"] == {place: "ValueError: x\ufffdy"}


class Rule:
    """A line of .airflowignore: the name of a file or folder. As one of Airflow's, it refuses a
    single !, and looks at each place."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def compile(cls, pattern: str, base_dir: Path, definition_file: Path) -> Rule:
        if pattern == "!":
            raise ValueError(f"Invalid git pattern: {pattern}")
        return cls(pattern)

    @staticmethod
    def match(path: Path, rules: list[Rule]) -> bool:
        if path.name == "secret":
            raise PermissionError(13, "Permission denied")
        return path.name in [rule.name for rule in rules]


def found_in(apart: Any, top: Path) -> list[str]:
    """The files that are found where Airflow's own function fails after the first one."""

    def own(base_dir_path: Path, ignore_file_name: str, ignore_rule_type: Any) -> Iterator[str]:
        yield "first"
        raise RuntimeError("Detected recursive loop")

    module = SimpleNamespace(_find_path_from_directory=own)
    apart.change_discovery(module)
    found = [*module._find_path_from_directory(top, ".airflowignore", Rule)]
    return sorted(str(Path(each).relative_to(top)) for each in found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of DAGs, and one beside it that it links to."""
    for name in ("top/a.py", "top/old/b.py", "top/team/c.py", "top/team/old/d.py", "beside/e.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("")
    (tmp_path / "top/.airflowignore").write_text("# Not these:\nold # done\n")
    (tmp_path / "top/beside").symlink_to(tmp_path / "beside")
    return tmp_path / "top"


EXPECTED = ["a.py", "beside/e.py", "team/c.py"]


def test_a_link_to_a_folder_of_dags_leaves_the_other_files(
    apart: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert found_in(apart, folder) == EXPECTED and not caplog.messages
    (folder / "again").symlink_to("team")
    (folder / "team/up").symlink_to("..")
    (folder.parent / "beside/back").symlink_to(folder / "team")
    (folder / "current").symlink_to("old")  # which is ignored at its own place
    assert found_in(apart, folder) == sorted([*EXPECTED, "current/b.py"])
    assert sorted(caplog.messages) == [
        f"{folder / link} is left out: {folder / target} is read at another place, so remove the"
        " link to it"
        for link, target in (("again", "team"), ("beside/back", "team"), ("team/up", "."))
    ]


@pytest.mark.parametrize(
    ("text", "known", "said"),
    [
        (b"!\nold\n", True, "Line 1 of {} is left out: Invalid git pattern: !"),
        (b"old\nB\xfccher\n", True, "Line 2 of {} is left out: it has letters that are not UTF-8"),
        (None, False, "{} is left out: [Errno 13] Permission denied"),
    ],
    ids=["pattern", "encoding", "mode"],
)
def test_a_bad_airflowignore_leaves_the_other_files(
    text: bytes | None,
    known: bool,
    said: str,
    apart: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = folder / "team/.airflowignore"
    (folder / ".airflowignore").rename(bad)
    if text is None:

        def refuse(*args: Any, **options: Any) -> str:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_text", refuse)  # root reads each file
    else:
        bad.write_bytes(text)
    ignored = [] if known else ["team/old/d.py"]
    assert found_in(apart, folder) == sorted([*EXPECTED, "old/b.py", *ignored])
    assert caplog.messages == [said.format(bad)]


def test_a_place_that_airflow_may_not_examine_is_left_out(
    apart: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "secret").symlink_to("/nowhere")
    monkeypatch.setattr("os.access", lambda place, mode: Path(place).name != "team")
    assert found_in(apart, folder) == ["a.py", "beside/e.py"]
    assert sorted(caplog.messages) == [
        f"{folder / 'secret'} is left out: [Errno 13] Permission denied",
        f"{folder / 'team'} is left out: the service may not enter it",
    ]


def test_files_that_airflow_finds_are_its_own(apart: Any) -> None:
    replaced = apart.find_path_from_directory(lambda *given: iter(given))
    assert [*replaced("top", ".airflowignore", Rule)] == ["top", ".airflowignore", Rule]


def test_another_airflow_keeps_its_own_functions(
    apart: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Deadline:
        def handle_miss(self, session: Any, more: Any) -> None: ...

    own = vars(Deadline)["handle_miss"]
    apart.change_scheduler(SimpleNamespace(Deadline=Deadline))
    apart.change_processor(SimpleNamespace())
    apart.change_discovery(SimpleNamespace())
    assert vars(Deadline)["handle_miss"] is own
    assert len(caplog.messages) == len(apart.REPLACED) + 3
    assert "has no handle_miss as 3.3.2 has it" in " ".join(caplog.messages)


# Links


class Bundle:
    """Airflow's model of a bundle, as it renders the link to its source."""

    def __init__(self, template: str | None) -> None:
        self._template = template

    def _unsign_url(self) -> str | None:
        return self._template

    def render_url(self, version: str | None = None) -> str | None:
        return (self._template or "").format(version=version, subdir="dags")


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://example.com/{version}/{subdir}", "https://example.com/1/dags"),
        ("http://example.com", "http://example.com"),
        (None, None),
        ("https://example.com/{version:>9999999999}", None),
        ("https://example.com/{version!r}", None),
        ("https://example.com/{version.real}", None),
        ("https://example.com/{version[0]}", None),
        ("https://example.com/{}", None),
        ("https://example.com/{version", None),
        ("https://example.com/" + "x" * 2000, None),
        ("javascript:alert(1)", None),
    ],
)
def test_a_link_to_a_bundle_is_only_a_link(
    modules: Path, template: str | None, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bundle, "render_url", Bundle.render_url)
    links = importlib.import_module("airflow_deploy_links")
    links.change(SimpleNamespace(DagBundleModel=Bundle))
    assert Bundle(template).render_url("1") == url


# Fernet keys, and triggers


OLD, NEW = (Fernet(Fernet.generate_key()) for _ in range(2))


ENCRYPTED, UNKNOWN = (each.encrypt(b"{}").decode() for each in (OLD, Fernet(Fernet.generate_key())))


@pytest.fixture
def rotated(modules: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Replaces the key of a table with one row, whose columns are given; returns its texts."""
    keys = importlib.import_module("airflow_deploy_keys")
    stand_ins: dict[str, dict[str, Any]] = {
        "airflow": {},
        "airflow.models": {},
        "airflow.models.crypto": {"get_fernet": lambda: MultiFernet([NEW, OLD])},
        "sqlalchemy": {"text": str},
    }
    for name, values in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        vars(sys.modules[name]).update(values)

    def own(session: Any, model_class: Any, filter_condition: Any, batch_size: Any) -> None:
        raise InvalidToken

    def make(table: str, **columns: object) -> list[Any]:
        command = SimpleNamespace(rotate_items_in_batches=own)
        keys.change(command)
        database = sqlite3.connect(":memory:")
        named = ", ".join(f'"{name}"' for name in columns)
        database.execute(f'create table "{table}" ({named})')
        marks = ", ".join("?" * len(columns))
        database.execute(f'insert into "{table}" values ({marks})', [*columns.values()])
        command.rotate_items_in_batches(database, SimpleNamespace(__tablename__=table))
        (row,) = database.execute(f'select * from "{table}"')
        return [*row]

    return make


@pytest.mark.parametrize(
    "text", ['{"delta": 5}', "", "x", UNKNOWN, ENCRYPTED], ids=["json", "", "x", "unknown", "own"]
)
def test_a_trigger_without_encryption_keeps_no_key(
    text: str, rotated: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, now = rotated("trigger", id=7, kwargs=text)
    said = "No key reads kwargs of the trigger 7: it stays as it is.\n"
    assert capsys.readouterr().err == (said if text in ("x", UNKNOWN) else "")
    assert (NEW.decrypt(now) == b"{}") if text == ENCRYPTED else now == text


@pytest.mark.parametrize("table", ["connection", "connection_test_request"])
def test_a_text_that_no_key_reads_keeps_no_key_and_is_named(
    table: str, rotated: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The other text of the row is encrypted again, since its key will be forgotten."""
    known_as = {"connection": "conn_id", "connection_test_request": "connection_id"}[table]
    row = {"id": 3, known_as: "db\x1b", "is_encrypted": 1, "is_extra_encrypted": 1}
    *_, password, extra = rotated(table, **row, password=UNKNOWN, extra=ENCRYPTED)
    assert password == UNKNOWN and NEW.decrypt(extra) == b"{}"
    said = capsys.readouterr().err
    assert said.startswith(f"No key reads password of the {table} 'db\\x1b': it stays as it is.")
    assert ("psql -c 'delete from connection where id = 3'" in said) == (table == "connection")
    row["is_encrypted"] = 0
    assert rotated(table, **row, password="plain", extra=None)[-2:] == ["plain", None]
    assert capsys.readouterr().err == ""


def test_a_variable_that_no_key_reads_is_named(
    rotated: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": 3, "key": "a", "is_encrypted": 1}
    assert NEW.decrypt(rotated("variable", **row, val=ENCRYPTED)[-1]) == b"{}"
    assert rotated("variable", **row, val=UNKNOWN)[-1] == UNKNOWN
    assert capsys.readouterr().err.startswith("No key reads val of the variable 'a': it stays")


def test_the_keys_of_another_table_are_replaced_by_airflow(
    rotated: Callable[..., list[Any]],
) -> None:
    with pytest.raises(InvalidToken):
        rotated("new_table", id=3)


@pytest.fixture
def triggers(modules: Path) -> Any:
    """The module that changes triggers."""
    return importlib.import_module("airflow_deploy_triggers")


class Runner:
    """Airflow's process of triggers, which drains its queue and handles no ValueError."""

    def __init__(self, *names: str) -> None:
        self.to_create = deque(SimpleNamespace(id=name) for name in names)
        self.failed_triggers: deque[tuple[str, Any]] = deque()
        self.started: list[str] = []
        self.log = SimpleNamespace(exception=lambda *_, **__: None)

    async def create_triggers(self) -> None:
        while self.to_create:
            name = self.to_create.popleft().id
            if name.startswith("bad"):
                raise ValueError(name)
            self.started.append(name)


@pytest.mark.parametrize(
    ("names", "failed"),
    [
        (("a", "b"), []),
        (("a", "bad", "b", "bad too", "c"), ["bad", "bad too"]),
        (("bad", "a"), ["bad"]),
        (("a", "bad"), ["bad"]),
        ((), []),
    ],
)
def test_a_trigger_that_does_not_start_fails_alone(
    triggers: Any, names: tuple[str, ...], failed: list[str]
) -> None:
    runner = Runner(*names)
    asyncio.run(triggers.create_triggers(Runner.create_triggers)(runner))
    assert [(name, str(error)) for name, error in runner.failed_triggers] == [
        (name, name) for name in failed
    ]
    assert runner.started == [name for name in names if name not in failed]


def test_a_trigger_whose_dag_cannot_be_read_fails_alone(triggers: Any) -> None:
    error: Exception | None = None

    def own(self: Any, trigger: Any, dag_bag: Any, render_log_fname: Any, session: Any) -> str:
        if error:
            raise error
        return f"{trigger.id} {session}"

    supervisor = SimpleNamespace(failed_triggers=deque())
    options = {"trigger": SimpleNamespace(id=7), "dag_bag": 1, "render_log_fname": 2, "session": 3}
    replaced = triggers.create_workload(own)
    assert replaced(supervisor, **options) == "7 3"
    error = KeyError("no DAG")
    assert replaced(supervisor, **options) is None
    ((name, trace),) = supervisor.failed_triggers
    assert name == 7 and "no DAG" in trace[-1]
    # The session is broken.
    error = DBAPIError()
    with pytest.raises(DBAPIError):
        replaced(supervisor, **options)


def test_another_airflow_keeps_its_own_triggers(
    triggers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Other:
        def create_triggers(self, more: Any) -> None: ...

    own = Other.create_triggers
    triggers.change_triggerer(SimpleNamespace(TriggerRunner=Other))
    assert Other.create_triggers is own
    assert len(caplog.messages) == 2


# The cluster's API


@pytest.fixture
def executor(modules: Path) -> Any:
    """An executor of Airflow's parameters, changed, which tells the errors that it handles."""

    class KubernetesExecutor:
        raised: Exception | None = None

        def _adopt_completed_pods(self, kube_client: Any) -> None:
            if self.raised:
                raise self.raised

        def _handle_pod_publish_error(self, task: Any, e: Exception) -> Exception:
            return e

    module = SimpleNamespace(KubernetesExecutor=KubernetesExecutor)
    importlib.import_module("airflow_deploy_outages").change(module)
    return KubernetesExecutor()


@pytest.mark.parametrize(
    "away",
    [MaxRetryError(None, "/api", None), ApiException(503)],  # type: ignore[arg-type]
)
def test_a_cluster_that_does_not_answer_ends_no_scheduler(
    away: Exception, executor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    executor._adopt_completed_pods(None)
    assert not caplog.messages
    executor.raised = away
    executor._adopt_completed_pods(None)
    assert caplog.messages[0].startswith(
        "The cluster does not list its pods, so Airflow asks later"
    )
    executor.raised = OperationalError()
    with pytest.raises(OperationalError):
        executor._adopt_completed_pods(None)


def refusal(status: int, words: str = "") -> ApiException:
    """An answer of the cluster's API, whose body is a Status."""
    error = ApiException(status)
    error.body = json.dumps({"kind": "Status", "message": words})
    return error


WITHOUT_ROLES = refusal(403, 'pods is forbidden: User "x" cannot create resource "pods" in API')
NOT_READY = refusal(403, 'pods "x" is forbidden: not yet ready to handle request')


def test_a_pod_that_a_starting_api_refuses_stays_queued_for_a_minute(
    executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handled(seconds: float, error: Exception) -> type[Exception]:
        monkeypatch.setattr("time.monotonic", lambda: 1000 + seconds)
        return type(executor._handle_pod_publish_error("task", error))

    for second, error in enumerate((WITHOUT_ROLES, NOT_READY, refusal(401))):
        assert handled(second, error) is ProtocolError  # Airflow asks again after it
    # Other errors are Airflow's.
    assert handled(3, refusal(403, "exceeded quota")) is ApiException
    assert handled(3, refusal(422, "a policy refuses it")) is ApiException
    assert handled(59, WITHOUT_ROLES) is ProtocolError
    # A right that is taken away fails the task.
    for second in (61, 100, 150):
        assert handled(second, WITHOUT_ROLES) is ApiException
    # Another start.
    assert handled(300, WITHOUT_ROLES) is ProtocolError
