"""Assets: one DAG's task updates one, another DAG starts for it; and large XComs on the way."""

from airflow.sdk import Asset, dag, task

TABLE = Asset("e2e_table")


@dag(schedule=None, catchup=False)
def e2e_producer() -> None:
    """Hands on 5 MB and 7 MB, and updates the asset."""

    @task
    def large() -> str:
        return "x" * 5_000_000

    @task
    def larger() -> str:
        return "x" * 7_000_000

    @task(outlets=[TABLE])
    def update(text: str, more: str) -> None:
        print("received", len(text), "and", len(more))

    update(large(), larger())


@dag(schedule=[TABLE], catchup=False, is_paused_upon_creation=False)
def e2e_consumer() -> None:
    """Starts by itself."""

    @task(inlets=[TABLE])
    def consume(inlet_events=None) -> None:
        print("events", len(inlet_events[TABLE]))

    consume()


e2e_producer()
e2e_consumer()
