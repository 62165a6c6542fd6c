"""A callback that no executor runs fails alone, and the scheduler goes on.

Airflow 3.3.2 gives a SyncCallback of a deadline to KubernetesExecutor, which raises an exception
that ends the scheduler: after each start again, since the callback still waits. The policy refuses
such a DAG where it is read, but the code of the DAG runs in that process and can change it.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import airflow_deploy_imports

SCHEDULER = "airflow.jobs.scheduler_job_runner"
NAME = "_try_to_load_executor"
# Its parameters, as Airflow 3.3.2 has them.
PARAMETERS = ["self", "workload", "session", "team_name"]
log = logging.getLogger(__name__)


def change(module: Any) -> None:
    """Let the scheduler find no executor for such a callback, unless it is another scheduler."""
    scheduler = getattr(module, "SchedulerJobRunner", None)
    own = getattr(scheduler, NAME, None)
    if own is None or list(inspect.signature(own).parameters) != PARAMETERS:
        log.warning(
            "This version of Airflow has no %s as 3.3.2 has it. A SyncCallback for an executor that"
            " runs none may end the scheduler until the deploy knows this version.",
            NAME,
        )
        return

    def executor_of(self: Any, workload: Any, session: Any, *rest: Any, **options: Any) -> Any:
        executor = own(self, workload, session, *rest, **options)
        # Tasks have no output.
        if executor is None or executor.supports_callbacks or not hasattr(workload, "output"):
            return executor
        workload.state = "failed"
        workload.output = f"{type(executor).__name__} does not run callbacks"
        session.add(workload)
        log.error("Callback %s fails: %s", workload.id, workload.output)
        return None

    setattr(scheduler, NAME, executor_of)


def install() -> None:
    """Wait for the scheduler's module."""
    airflow_deploy_imports.when_imported(SCHEDULER, change)
