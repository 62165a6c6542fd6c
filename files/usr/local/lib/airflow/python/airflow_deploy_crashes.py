"""A segmentation fault ends the process, so a task that runs on the host fails by it.

Airflow 3.3.2 imports DAGs under a handler for segmentation faults, and never takes it away. A
handler in Python returns to the instruction that failed, which fails again: such a task would never
end and use a whole CPU, and so would the process that reads a DAG, until its time is up. start_task
does the same in the worker image.
"""

from __future__ import annotations

import signal
from typing import Any

IMPORTER = "airflow.dag_processing.importers.python_importer"
own_set_handler = signal.signal


def set_handler(number: int, handler: Any) -> Any:
    """As signal.signal, but Airflow's importer of DAGs can't handle segmentation faults."""
    if number == signal.SIGSEGV and getattr(handler, "__module__", "") == IMPORTER:
        return signal.getsignal(number)
    return own_set_handler(number, handler)


def install() -> None:
    """Put this in the place of signal.signal, for this process and its children."""
    signal.signal = set_handler  # type: ignore[assignment]
