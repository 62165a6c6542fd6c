"""Tasks that print a few lines or many, and one that is killed; for the end-to-end tests."""

import time

from airflow.sdk import dag, task

LINES = 100_000


@dag(schedule=None, catchup=False)
def e2e_logs() -> None:
    """Two tasks side by side."""

    @task
    def many() -> None:
        for number in range(LINES):
            print(f"line {number}")

    @task(retries=1, retry_delay=1)
    def killed(ti=None) -> None:  # type: ignore[no-untyped-def]
        print(f"try {ti.try_number} began")
        if ti.try_number == 1:
            time.sleep(300)  # until its pod is killed
        print(f"try {ti.try_number} ended")

    many()
    killed()


e2e_logs()
