"""A task that prints what is secret; for the end-to-end tests."""

from airflow.sdk import BaseHook, dag, task


@dag(schedule=None, catchup=False)
def e2e_leaks() -> None:
    """It prints its input, and fails with it."""

    @task
    def tell() -> None:
        connection = BaseHook.get_connection("e2e_leaks")
        print("password", connection.password, "extra", connection.extra)
        raise ValueError(connection.password)

    tell()


e2e_leaks()
