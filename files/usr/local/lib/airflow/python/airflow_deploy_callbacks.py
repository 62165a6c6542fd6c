"""A callback that no executor runs fails alone, and the scheduler goes on.

Airflow 3.3.2 gives a SyncCallback of a deadline to KubernetesExecutor, which raises an exception
that ends the scheduler: after each start again, since the callback still waits. The policy refuses
such a DAG where it is read, but the code of the DAG runs in that process and can change it.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_deploy_imports import replace, when_imported

SCHEDULER = "airflow.jobs.scheduler_job_runner"
log = logging.getLogger(__name__)


def executor_of(own: Any) -> Any:
    """No executor for a callback that it would not run."""

    def replaced(self: Any, workload: Any, session: Any, *rest: Any, **options: Any) -> Any:
        executor = own(self, workload, session, *rest, **options)
        # Tasks have no output.
        if executor is None or executor.supports_callbacks or not hasattr(workload, "output"):
            return executor
        workload.state = "failed"
        workload.output = f"{type(executor).__name__} does not run callbacks"
        session.add(workload)
        log.error("Callback %s fails: %s", workload.id, workload.output)
        return None

    return replaced


def change(module: Any) -> None:
    """Let the scheduler find no executor for such a callback."""
    scheduler = getattr(module, "SchedulerJobRunner", None)
    parameters = "self workload session team_name"
    harm = "A SyncCallback for an executor that runs none may end the scheduler"
    replace(scheduler, "_try_to_load_executor", parameters, executor_of, harm)


def install() -> None:
    """Wait for the scheduler's module."""
    when_imported(SCHEDULER, change)
