"""A trigger that can't be started fails alone.

Where Airflow 3.3.2 starts triggers it handles only a TypeError, and another exception ends the
triggerer: after each start again, since the row is still there.
"""

from __future__ import annotations

import logging
from traceback import format_exception
from typing import Any

from airflow_deploy_imports import replace, when_imported
from sqlalchemy.exc import DBAPIError

TRIGGERER = "airflow.jobs.triggerer_job_runner"
log = logging.getLogger(__name__)


def create_triggers(own: Any) -> Any:
    """Start each trigger, in the process that runs them."""

    async def replaced(self: Any) -> None:
        while self.to_create:
            workloads = list(self.to_create)
            try:
                await own(self)
            except Exception as error:
                # Airflow takes them from the left, so the others are still there.
                failed = workloads[-len(self.to_create) - 1]
                self.log.exception("Trigger failed to start", trigger_id=failed.id)
                self.failed_triggers.append((failed.id, error))

    return replaced


def create_workload(own: Any) -> Any:
    """Read the DAG of each trigger's task, in the process that asks the database."""

    def replaced(self: Any, trigger: Any, **options: Any) -> Any:
        name = trigger.id
        try:
            return own(self, trigger=trigger, **options)
        except DBAPIError:
            raise
        except Exception as error:
            log.exception("Trigger %s fails", name)
            self.failed_triggers.append((name, format_exception(error)))
            return None

    return replaced


def change_triggerer(module: Any) -> None:
    """Start each trigger apart."""
    harm = "A task may end the triggerer"
    runner = getattr(module, "TriggerRunner", None)
    replace(runner, "create_triggers", "self", create_triggers, harm)
    supervisor = getattr(module, "TriggerRunnerSupervisor", None)
    parameters = "self trigger dag_bag render_log_fname session"
    replace(supervisor, "_create_workload", parameters, create_workload, harm)


def install() -> None:
    """Wait for the module of triggers."""
    when_imported(TRIGGERER, change_triggerer)
