"""A task whose first try does not end by itself; for the end-to-end tests."""

import time

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False)
def e2e_interrupted() -> None:
    """One task, which may be tried twice."""

    @task(retries=1, retry_delay=1)
    def interrupted(ti=None) -> None:  # type: ignore[no-untyped-def]
        print(f"try {ti.try_number} began", flush=True)
        if ti.try_number == 1:
            time.sleep(600)  # until the machine goes down

    interrupted()


e2e_interrupted()
