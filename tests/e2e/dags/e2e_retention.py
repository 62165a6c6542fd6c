"""DAGs whose runs become old; for the end-to-end tests."""

from datetime import UTC, datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(
    schedule="@daily",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    end_date=datetime(2024, 1, 3, tzinfo=UTC),
    catchup=True,
)
def e2e_scheduled() -> None:
    """Three scheduled runs, which nothing but the scheduler works at."""
    EmptyOperator(task_id="nothing")


@dag(schedule=None, catchup=False)
def e2e_by_hand() -> None:
    """Runs as they are triggered."""
    EmptyOperator(task_id="nothing")


@dag(schedule=None, catchup=False)
def e2e_between_tasks() -> None:
    """A run whose first task has ended and whose second one can't begin."""

    @task(pool="e2e_no_such_pool")
    def waits() -> None:
        pass

    EmptyOperator(task_id="nothing") >> waits()


@dag(schedule=None, catchup=False)
def e2e_unended_task() -> None:
    """A run that has ended but for a task of it."""
    EmptyOperator(task_id="nothing")


e2e_scheduled()
e2e_by_hand()
e2e_between_tasks()
e2e_unended_task()
