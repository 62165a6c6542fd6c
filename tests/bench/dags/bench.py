"""One trivial task, and thirty at once; for the benchmark."""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag


@dag(schedule=None, catchup=False)
def bench_single() -> None:
    """One task."""
    BashOperator(task_id="one", bash_command="true")


@dag(schedule=None, catchup=False)
def bench_parallel() -> None:
    """Thirty tasks that wait for nothing."""
    BashOperator.partial(task_id="many").expand(bash_command=["true"] * 30)


bench_single()
bench_parallel()
