"""The proof that the host works: a tiny DAG runs as a pod, and repositories give their DAGs."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.lib import members
from tasks.lib.operations import ensure
from tasks.settings import HostSettings
from tasks.worker import dags


def run(settings: HostSettings) -> None:
    """A task ran with the host as it is now, and each repository of DAGs answered."""
    _run(settings)
    dags.verify(settings)


@deploy("Smoke test")
def _run(settings: HostSettings) -> None:
    """A task ran as a pod with the host as it is now, unless a setting turned the test off."""
    if not settings.airflow.smoke_test:
        return
    run_it = members.ensure_in_turn if settings.members else ensure
    run_it(
        name="Run a tiny DAG as a pod (about 10 s)",
        program="smoke-test.sh",
        already="it ran with the host as it is",
    )
