"""A DAG, run, task or file that can't be handled is left out, and the service goes on.

The code of DAGs writes rows of Airflow's database as the dag-processor does. Airflow 3.3.2 handles
many of them in one transaction, and an exception by one of them ends the scheduler: after each
start again, since the row is still there. Here each part has a savepoint of its own. A file ends
the dag-processor in the same way, by a value that the database refuses; so does a .airflowignore
that can't be read, and a link to a folder that was found before.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from airflow_deploy_imports import replace, when_imported
from sqlalchemy.exc import DBAPIError, OperationalError

SCHEDULER = "airflow.jobs.scheduler_job_runner"
PROCESSOR = "airflow.dag_processing.manager"
# Airflow has the same module twice.
DISCOVERY = [f"airflow.{part}_shared.module_loading.file_discovery" for part in ("", "sdk.")]
# Characters that PostgreSQL has in no text: NUL, and halves of a pair of UTF-16.
NO_TEXT = re.compile("[\0\ud800-\udfff]")
AGAIN = 60.0  # seconds after which the same sentence is logged again
log = logging.getLogger(__name__)
_told: dict[str, float] = {}


def tell(what: str, reason: object = None) -> None:
    """Log a reason, or the exception that is handled: services find the same several times a
    second."""
    now = time.monotonic()
    if now - _told.get(what, -AGAIN) >= AGAIN:
        _told[what] = now
        if reason:
            log.error("%s is left out: %s", what, reason)
        else:
            log.exception("%s is left out", what)


def within(session: Any, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Do work in a savepoint. If it fails, also by an exception of the database that it handles
    itself, all of it is undone, and the session goes on."""
    point = session.begin_nested()
    try:
        result = work(*args, **options)
        # It may have ended the whole transaction.
        if session.get_nested_transaction() is point:
            point.commit()
    except BaseException:
        if session.get_nested_transaction() is point:
            point.rollback()
        else:
            session.rollback()
        raise
    return result


def apart(session: Any, items: Collection[Any], work: Callable[[Any], Any]) -> None:
    """Do work with all items; if that fails, with each alone, without those that fail."""
    items = list(items)
    groups = [items] if items else []
    while groups:
        group = groups.pop()
        names = [str(getattr(each, "dag_id", each)) for each in group]
        try:
            within(session, work, group)
        except OperationalError:
            raise  # the database is away, or another scheduler has a lock: Airflow tries again
        except Exception:
            if len(group) == 1:
                tell(f"DAG {names[0]}")
            else:
                groups = [[each] for each in group]


def create_dag_runs(own: Any) -> Any:
    """Each DAG whose time has come."""

    def replaced(self: Any, dag_models: Collection[Any], session: Any) -> None:
        apart(session, dag_models, lambda some: own(self, some, session))

    return replaced


def create_dag_runs_asset_triggered(own: Any) -> Any:
    """Each DAG whose assets have changed."""

    def replaced(self: Any, *, dag_models: Collection[Any], session: Any) -> None:
        apart(session, dag_models, lambda some: own(self, dag_models=some, session=session))

    return replaced


def create_dagruns_for_partitioned_asset_dags(own: Any) -> Any:
    """Partitions of assets wait if one of them fails, and nothing else does."""

    def replaced(self: Any, session: Any) -> set[str]:
        try:
            found: set[str] = within(session, own, self, session)
        except OperationalError:
            raise
        except Exception:
            tell("Each partition of assets")
            return set()
        return found

    return replaced


def schedule_dag_run(own: Any) -> Any:
    """Each run. Airflow itself goes on after other exceptions than the database's."""

    def replaced(self: Any, dag_run: Any, session: Any) -> Any:
        try:
            return within(session, own, self, dag_run, session)
        except OperationalError:
            raise
        except DBAPIError as error:
            raise RuntimeError("the database refused a change of the run") from error

    return replaced


class OneEvent:
    """An executor with one event of all that it has."""

    def __init__(self, executor: Any, key: Any, event: Any) -> None:
        self._executor, self._events = executor, {key: event}

    def __getattr__(self, name: str) -> Any:
        """All that it does not have itself."""
        return getattr(self._executor, name)

    def __str__(self) -> str:
        """Its name in messages."""
        return str(self._executor)

    def get_event_buffer(self) -> dict[Any, Any]:
        """As Airflow's executors have it."""
        return self._events


def process_executor_events(own: Any) -> Any:
    """Each task that ended. There is no savepoint, since a callback commits."""
    function = own.__func__

    def replaced(cls: Any, executor: Any, job_id: Any, scheduler_dag_bag: Any, session: Any) -> int:
        count = 0
        for key, event in executor.get_event_buffer().items():
            one = OneEvent(executor, key, event)
            try:
                count += function(cls, one, job_id, scheduler_dag_bag, session)
            except OperationalError:
                raise
            except Exception:
                session.rollback()
                tell(f"The end of task {key}")
        return count

    return classmethod(replaced)


def purge_task_instances_without_heartbeats(own: Any) -> Any:
    """Each task that died."""

    def replaced(
        self: Any, task_instances_without_heartbeats: Sequence[Any], *, session: Any
    ) -> None:
        names = [str(each) for each in task_instances_without_heartbeats]
        for name, each in zip(names, task_instances_without_heartbeats, strict=True):
            try:
                own(self, [each], session=session)
            except OperationalError:
                raise
            except Exception:
                session.rollback()
                tell(f"The end of task {name}")

    return replaced


def adopt_or_reset_orphaned_tasks(own: Any) -> Any:
    """The scheduler calls this before its loop, too."""

    @wraps(own)
    def replaced(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return own(self, *args, **options)
        except OperationalError:
            raise
        except Exception:
            tell("Each task of a scheduler that ended")
            return 0

    return replaced


def handle_miss(own: Any) -> Any:
    """Each deadline. One that fails has no callback."""

    def replaced(self: Any, session: Any) -> None:
        try:
            within(session, own, self, session)
        except OperationalError:
            raise
        except Exception:
            tell(f"The callback of deadline {self.id}")
            self.missed = True
            session.add(self)

    return replaced


def call_regular_interval(own: Any) -> Any:
    """Each of the scheduler's timers."""

    def replaced(
        self: Any,
        delay: float,
        action: Any,
        arguments: Any = (),
        kwargs: Any = None,
        non_fatal: bool = True,
    ) -> None:
        own(self, delay, action, arguments, kwargs, non_fatal=True)

    return replaced


def validate_commit(own: Any) -> Any:
    """The end of a savepoint is no commit, which some parts of the loop forbid."""

    def replaced(self: Any, _: Any) -> None:
        if not self.session.in_nested_transaction():
            own(self, _)

    return replaced


# Numbers that the scheduler compares while it holds all tasks that could begin.
COMPARED = ("max_active_tis_per_dag", "max_active_tis_per_dagrun")


def check(dag: Any) -> None:
    """Raise TypeError if a DAG would fail where the scheduler handles all DAGs at once."""
    # Here, since few processes read DAGs; these have loaded it.
    from airflow.timetables.base import Timetable

    if not isinstance(dag.timetable, Timetable):
        raise TypeError(f"{dag.timetable!r} is no timetable")
    for each in (dag, *dag.tasks):
        # Airflow sets each key of the row, also one with the name of a method.
        for name in getattr(each, "__dict__", ()):
            if callable(getattr(type(each), name, None)):
                raise TypeError(f"{name} of {each} is no value of a DAG")
    for task in dag.tasks:
        for limit in COMPARED:
            if not isinstance(getattr(task, limit, None), int | float | None):
                raise TypeError(f"{limit} of {task.task_id} is no number")


def read_dag(own: Any) -> Any:
    """A DAG that can't be read is none, also where Airflow does not handle that."""

    def replaced(self: Any, serdag: Any) -> Any:
        name = serdag.dag_id
        try:
            dag = own(self, serdag)
            if dag:
                check(dag)
        except Exception:
            tell(f"DAG {name}")
            self._dags.pop(serdag.dag_version_id, None)
            return None
        return dag

    return replaced


def names(condition: Any) -> Iterator[Any]:
    """The names and URIs of assets in a condition, by which the scheduler asks the database."""
    for key, _ in condition.iter_assets():
        yield from (key.name, key.uri)
    for name, _ in condition.iter_asset_aliases():
        yield name
    for each in condition.iter_asset_refs():
        yield each.name if hasattr(each, "name") else each.uri


def get_latest_serialized_dags(own: Any) -> Any:
    """Those that can be read."""
    function = own.__func__

    def readable(serdag: Any) -> bool:
        name = serdag.dag_id
        try:
            for each in names(serdag.dag.timetable.asset_condition):
                if not isinstance(each, str) or NO_TEXT.search(each):
                    # Airflow goes on after the database's error, with a session that is broken.
                    raise TypeError(f"{each!r} is no name of an asset")
        except Exception:
            tell(f"DAG {name}")
            return False
        return True

    def replaced(cls: Any, **options: Any) -> list[Any]:
        return [each for each in function(cls, **options) if readable(each)]

    return classmethod(replaced)


def update_dag_parsing_results_in_db(own: Any) -> Any:
    """Each file. One whose DAGs the database refuses is an import error."""

    def replaced(*, bundle_name: str, files_parsed: Any, session: Any, **options: Any) -> None:
        same = {"bundle_name": bundle_name, "files_parsed": files_parsed, "session": session}
        errors = dict(options["import_errors"])  # Airflow adds others
        try:
            own(**same, **options)
        except OperationalError:
            raise
        except Exception as error:
            session.rollback()
            tell(f"The file of {files_parsed}")
            cause = NO_TEXT.sub("\ufffd", str(getattr(error, "orig", None) or error))
            sentence = (
                "Airflow's database can't hold what is in this file: remove characters such as"
                f" \\0, or values that are too large. {cause:.999}"
            )
            refused = dict.fromkeys(files_parsed or (), sentence)
            refused |= {place: NO_TEXT.sub("\ufffd", text) for place, text in errors.items()}
            own(**same, **{**options, "dags": [], "warnings": set(), "import_errors": refused})

    return replaced


def ignored(place: Path, top: Path, kind: Any) -> list[Any]:
    """The rules of a .airflowignore, without the lines that are none."""
    try:
        if not place.is_file():
            return []
        # Airflow reads UTF-8. Letters of another encoding make no rule, their line does no harm.
        lines = place.read_text("utf-8", errors="replace").split("\n")
    except OSError as error:
        tell(str(place), error)
        return []
    rules = []
    for number, line in enumerate(lines, 1):
        pattern = re.sub(r"\s*#.*", "", line)
        try:
            if "\ufffd" in pattern:
                raise ValueError("it has letters that are not UTF-8")
            rule = kind.compile(pattern, top, place) if pattern else None
        except Exception as error:
            tell(f"Line {number} of {place}", error)
        else:
            rules += [rule] if rule is not None else []
    return rules


def matches(place: Path, rules: list[Any], kind: Any) -> bool:
    """Tell whether a file or folder is ignored; one that can't be examined is."""
    try:
        return bool(kind.match(place, rules))
    except OSError as error:
        tell(str(place), error)
        return True


def walk(top: Path, name: str, kind: Any) -> Iterator[str]:
    """The files of a folder as Airflow finds them, without the parts that it can't handle."""
    found: set[Path] = set()
    starts: list[tuple[Path, list[Any]]] = [(top, [])]
    # Links come last: the files that they lead to keep the path at which they were known.
    for start, its_rules in starts:
        inherited = {str(start): its_rules}
        for root, folders, files in os.walk(start):
            target = Path(root).resolve()
            if target in found:
                tell(root, f"{target} is read at another place, so remove the link to it")
            elif not os.access(root, os.X_OK):
                tell(root, "the service may not enter it")
            else:
                found.add(target)
                rules = inherited[root] + ignored(Path(root) / name, top, kind)
                places = [Path(root) / folder for folder in folders]
                places = [each for each in places if not matches(each, rules, kind)]
                starts += [(each, rules) for each in places if each.is_symlink()]
                folders[:] = [each.name for each in places if not each.is_symlink()]
                inherited |= {str(Path(root) / folder): rules for folder in folders}
                others = [Path(root) / file for file in files if file != name]
                yield from (str(each) for each in others if not matches(each, rules, kind))
                continue
            folders.clear()


def find_path_from_directory(own: Any) -> Any:
    """Each line of a .airflowignore, and each link."""

    def replaced(base_dir_path: Any, ignore_file_name: str, ignore_rule_type: Any) -> Iterator[str]:
        try:
            found = [*own(base_dir_path, ignore_file_name, ignore_rule_type)]
        except Exception:
            # Without all files their DAGs would be taken away, and each file that is ignored
            # would come back.
            found = [*walk(Path(base_dir_path), ignore_file_name, ignore_rule_type)]
        yield from found

    return replaced


# Functions of the scheduler's module, each with one for its place, and its parameters as Airflow
# 3.3.2 has them.
REPLACED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "SchedulerJobRunner._create_dag_runs": (create_dag_runs, "self dag_models session"),
    "SchedulerJobRunner._create_dag_runs_asset_triggered": (
        create_dag_runs_asset_triggered,
        "self dag_models session",
    ),
    "SchedulerJobRunner._create_dagruns_for_partitioned_asset_dags": (
        create_dagruns_for_partitioned_asset_dags,
        "self session",
    ),
    "SchedulerJobRunner._schedule_dag_run": (schedule_dag_run, "self dag_run session"),
    "SchedulerJobRunner.process_executor_events": (
        process_executor_events,
        "cls executor job_id scheduler_dag_bag session",
    ),
    "SchedulerJobRunner._purge_task_instances_without_heartbeats": (
        purge_task_instances_without_heartbeats,
        "self task_instances_without_heartbeats session",
    ),
    "SchedulerJobRunner.adopt_or_reset_orphaned_tasks": (
        adopt_or_reset_orphaned_tasks,
        "self session",
    ),
    "Deadline.handle_miss": (handle_miss, "self session"),
    "EventScheduler.call_regular_interval": (
        call_regular_interval,
        "self delay action arguments kwargs non_fatal",
    ),
    "DBDagBag._read_dag": (read_dag, "self serdag"),
    "SerializedDagModel.get_latest_serialized_dags": (
        get_latest_serialized_dags,
        "cls dag_ids session",
    ),
}

HARM = "A DAG may end a service"
OF_FILES = (
    "bundle_name bundle_version dags import_errors parse_duration warnings session version_data"
    " warning_types files_parsed"
)


def change_scheduler(module: Any) -> None:
    """Handle each row apart."""
    for path, (replacement, parameters) in REPLACED.items():
        owner, _, name = path.rpartition(".")
        replace(getattr(module, owner, None), name, parameters, replacement, HARM)
    # The module imports only the function that makes one.
    names = getattr(getattr(module, "prohibit_commit", None), "__globals__", {})
    guard = names.get("CommitProhibitorGuard")
    replace(guard, "_validate_commit", "self _", validate_commit, HARM)


def change_processor(module: Any) -> None:
    """Handle each file apart."""
    name = "update_dag_parsing_results_in_db"
    replace(module, name, OF_FILES, update_dag_parsing_results_in_db, HARM)


def change_discovery(module: Any) -> None:
    """Handle each part of a folder apart."""
    parameters = "base_dir_path ignore_file_name ignore_rule_type"
    name = "_find_path_from_directory"
    replace(module, name, parameters, find_path_from_directory, HARM)


def install() -> None:
    """Wait for the modules of the services."""
    when_imported(SCHEDULER, change_scheduler)
    when_imported(PROCESSOR, change_processor)
    for name in DISCOVERY:
        when_imported(name, change_discovery)
