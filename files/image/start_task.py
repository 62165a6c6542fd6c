"""The entrypoint of the worker image; its arguments are the program to run, as Airflow gives them.

It runs Airflow's own program for a task in this process, and saves CPU time in three ways.

- There is no search for garbage among the thousand modules that it imports: that took a third of a
  trivial task's CPU time, while they were imported and when the process ended. There is none, they
  stay until the end. As soon as the process of the task is forked off, both collect garbage as
  always, of what came later. It is what Python recommends for processes that fork:
  https://docs.python.org/3/library/gc.html#gc.freeze
- Modules that few tasks use are imported when they are first used (POSTPONED). That is for the
  version of Airflow that it was tested with; another one is run the plain way.
- When all is done, the process ends without taking its modules apart.

A segmentation fault ends the task: see set_handler. A bad .airflowignore among the plugins does
not: see tolerate.
"""

import atexit
import gc
import importlib
import importlib.util
import io
import os
import runpy
import signal
import sys
import threading
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Union

TASK = ["python", "-m", "airflow.sdk.execution_time.execute_workload"]
# The deploy's policy (pod_mutation_hook) moves a task from the arguments to this variable.
WORKLOAD = "AIRFLOW_DEPLOY_WORKLOAD"
# This module of Airflow 3.3.2 has a handler for segmentation faults, and never takes it away.
IMPORTER = "airflow.dag_processing.importers.python_importer"
own_set_handler = signal.signal


def set_handler(number: int, handler: Any) -> Any:
    """As signal.signal, but Airflow's importer of DAGs can't handle segmentation faults.

    The process of a task imports its DAG too. A handler in Python returns to the instruction that
    failed, which fails again: the task would never end and use a whole CPU.
    """
    if number == signal.SIGSEGV and getattr(handler, "__module__", "") == IMPORTER:
        return signal.getsignal(number)
    return own_set_handler(number, handler)


# This module of Airflow 3.3.2 looks for plugins.
DISCOVERY = "airflow.sdk._shared.module_loading.file_discovery"


def tolerate(module: Any) -> None:
    """Leave out a .airflowignore that can't be read, and its lines that are no pattern, as the host
    does (airflow_deploy_apart.py). With Airflow's own functions each task would fail."""
    own = module._GlobIgnoreRule.compile

    def compile_line(pattern: str, top: Any, place: Any) -> Any:
        try:
            return None if "\ufffd" in pattern else own(pattern, top, place)
        except ValueError as error:
            print(f"A line of {place} is left out: {error}", file=sys.stderr)
            return None

    def open_rules(place: Any) -> Any:
        try:
            # Letters that are not UTF-8 make no pattern.
            return open(place, encoding="utf-8", errors="replace")
        except OSError as error:
            print(f"{place} is left out: {error}", file=sys.stderr)
            return io.StringIO()

    module._GlobIgnoreRule.compile = staticmethod(compile_line)
    module.open = open_rules  # in the place of Python's own


# The tested version. Another version may use a name earlier, which would save nothing.
AIRFLOW = "3.3.2"
# By module: the modules that it imports and few tasks need, with the names that it takes from them
# without using them at once.
POSTPONED: dict[str, dict[str, list[str]]] = {
    # Only operators that run a task's source elsewhere, as in a virtual environment, parse it.
    "airflow.sdk.definitions._internal.decorators": {"libcst": []},
    # Only the dag-processor writes DAGs to the database.
    "airflow.dag_processing.dagbag": {
        "airflow.serialization.serialized_objects": ["LazyDeserializedDAG"]
    },
    # A pod only runs a task; the models of other work are for the scheduler.
    "airflow.executors.workloads.types": {
        "airflow.models.callback": ["CallbackKey", "ExecutorCallback"],
        "airflow.models.connection_test": [
            "ConnectionTestKey",
            "ConnectionTestRequest",
            "ConnectionTestState",
        ],
        "airflow.models.taskinstance": ["TaskInstance"],
    },
    "airflow.executors.workloads.connection_test": {
        "airflow.models.connection_test": ["ConnectionTestKey", "ConnectionTestState"]
    },
    "airflow.dag_processing.bundles.manager": {"airflow.models.dagbundle": ["DagBundleModel"]},
    "airflow.executors.executor_loader": {"airflow.models.team": ["Team"]},
    DISCOVERY: {},
    # The command line of httpx.
    "httpx": {"httpx._main": ["main"]},
    # Logs are JSON; an exception is formatted for a terminal only there.
    "structlog.dev": {"rich": [], "rich.console": ["Console"], "rich.traceback": ["Traceback"]},
}
# Base classes that are subclassed at once. When the real module is needed, the module with the
# derived ones is executed again, with the real class.
BASES = {"libcst": "CSTTransformer"}


class _Later:
    """A name of a module that is imported when the name is used."""

    def __init__(self, module: "_StandIn", name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        return getattr(self._module.real(), self._name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._real()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # typing asks for these
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._real())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._real())

    def __or__(self, other: Any) -> Any:
        return Union[self, other]  # noqa: UP007 - `|` is this very method

    __ror__ = __or__

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return (self._real(),)


class _StandIn(ModuleType):
    """Replaces a module while the module `user` is executed."""

    def __init__(self, name: str, later: list[str], user: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self._user = user
        for each in later:
            setattr(self, each, _Later(self, each))
        if base := BASES.get(name):
            setattr(self, base, type(base, (), {}))

    def leave(self) -> None:
        """Let the next import find the real module."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def real(self) -> ModuleType:
        """The real module."""
        self.leave()
        return importlib.import_module(self.__name__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        value = getattr(self.real(), name)
        user = sys.modules[self._user]
        if self.__name__ in BASES and any(each is self for each in vars(user).values()):
            importlib.reload(user)
        return value


class _Postponer:
    """Finds the modules of POSTPONED, and lets each have its stand-ins while it is executed."""

    @staticmethod
    def find_spec(name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Called by the import system for each module."""
        if name not in POSTPONED or target is not None:  # that is a reload
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            wanted = POSTPONED[name].items()
            # Some programs try an import, and do without a package that is not there.
            packages = {each.partition(".")[0] for each, _ in wanted}
            if not all(map(importlib.util.find_spec, packages)) or any(
                each in sys.modules for each, _ in wanted
            ):
                execute(module)
                return
            stand_ins = [_StandIn(each, later, name) for each, later in wanted]
            sys.modules.update({each.__name__: each for each in stand_ins})
            try:
                execute(module)
            finally:
                for each in stand_ins:
                    each.leave()
            if name == DISCOVERY:
                tolerate(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def postpone() -> None:
    """Import the modules of POSTPONED later, if this Airflow is the one that it was tested with."""
    from importlib.metadata import (
        PackageNotFoundError,
        version,
    )  # other programs do not wait for it

    try:
        tested = version("apache-airflow-core") == AIRFLOW
    except PackageNotFoundError:
        return
    if tested:
        sys.meta_path.insert(0, _Postponer)


def end() -> None:
    """End the process as Python does, but without freeing memory, if there is no other thread."""
    if threading.active_count() > 1:
        return
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Run the program of the arguments."""
    command = sys.argv[1:] or ["python"]
    if command[:2] == ["python", "-c"] and WORKLOAD in os.environ:
        command = [*TASK, "--json-string", os.environ.pop(WORKLOAD)]
    if command[:3] != TASK:
        os.execvp(command[0], command)
    # Tasks of several users share folders by their group, above all those of their logs.
    os.umask(0o002)
    signal.signal = set_handler  # type: ignore[assignment]
    gc.disable()
    # Once, since the iterator then ends. This is no Python code: Python would handle a signal here,
    # and ignore the exception of its handler.
    freeze_once = partial(next, iter(gc.freeze, None), None)
    os.register_at_fork(before=freeze_once, after_in_parent=gc.enable, after_in_child=gc.enable)
    sys.path[0] = os.getcwd()  # as -m has it
    sys.argv = command[2:]
    postpone()
    runpy.run_module(TASK[2], run_name="__main__", alter_sys=True)
    end()


if __name__ == "__main__":
    main()
