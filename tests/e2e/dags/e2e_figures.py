"""Tasks that are named after the state that a test gives them; for the end-to-end tests."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag

# Of each state another number, so that none is taken for another.
STATES = {
    "scheduled": 1,
    "queued": 2,
    "running": 3,
    "restarting": 4,
    "deferred": 5,
    "awaiting_input": 6,
    "up_for_retry": 7,
    "up_for_reschedule": 8,
}


@dag(schedule=None, catchup=False)
def e2e_figures() -> None:
    """Tasks in two pools; in one of them each takes two slots."""
    for state, count in STATES.items():
        for number in range(count):
            narrow = number % 2 == 0
            EmptyOperator(
                task_id=f"{state}-{number}",
                pool="e2e_narrow" if narrow else "e2e_wide",
                pool_slots=2 if narrow else 1,
            )


e2e_figures()
