"""A task that prints what it knows of its host; for the end-to-end tests."""

import os

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False)
def e2e_elsewhere() -> None:
    """One task."""

    @task
    def look(ti=None) -> None:  # type: ignore[no-untyped-def]
        print("uid", os.getuid(), "link", ti.log_url)

    look()


e2e_elsewhere()
