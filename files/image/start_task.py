"""What the worker image starts with; the program to run are its arguments, as Airflow gives them.

Airflow's own program for a task is run in this very process, without a search for garbage among the
thousand modules that it imports: that took a third of a trivial task's CPU time, while they were
imported and when the process ended. There is none, they stay until the end. As soon as the process
of the task is forked off, both collect garbage as always, of what came later. It is what Python
recommends for processes that fork: https://docs.python.org/3/library/gc.html#gc.freeze

A segmentation fault ends the task: see set_handler.
"""

import gc
import os
import runpy
import signal
import sys
from typing import Any

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


def freeze_once() -> None:
    """Let what there is stay, unless that was done before an earlier fork."""
    if not gc.isenabled():
        gc.freeze()


command = sys.argv[1:] or ["python"]
if command[:2] == ["python", "-c"] and WORKLOAD in os.environ:
    command = [*TASK, "--json-string", os.environ.pop(WORKLOAD)]
if command[:3] != TASK:
    os.execvp(command[0], command)
# Tasks of several users share folders by their group, above all those of their logs.
os.umask(0o002)
signal.signal = set_handler  # type: ignore[assignment]
gc.disable()
os.register_at_fork(before=freeze_once, after_in_parent=gc.enable, after_in_child=gc.enable)
sys.path[0] = os.getcwd()  # as -m has it
sys.argv = command[2:]
runpy.run_module(TASK[2], run_name="__main__", alter_sys=True)
