"""Hundreds of mapped tasks that need no pod: the scheduler alone ends empty ones."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task

MANY = 501


@dag(schedule=None, catchup=False)
def e2e_many() -> None:
    """One for each number that the first task returns, and one after all of them."""

    @task
    def numbers() -> list[str]:
        return [str(number) for number in range(MANY)]

    @task
    def after() -> None:
        print("all of them ended")

    EmptyOperator.partial(task_id="each").expand(doc=numbers()) >> after()


e2e_many()
