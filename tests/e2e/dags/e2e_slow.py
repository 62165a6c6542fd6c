"""A task that says something and then takes its time; for the end-to-end tests."""

import time

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False)
def e2e_slow() -> None:
    """One task of half a minute."""

    @task
    def take_your_time() -> str:
        print("the first line")
        time.sleep(30)
        print("the last line")
        return "done"

    take_your_time()


e2e_slow()
