"""Assets: one DAG's task updates one, another DAG starts for it; and a large XCom on the way."""

from airflow.sdk import Asset, dag, task

TABLE = Asset("e2e_table")
MEGABYTES = 5


@dag(schedule=None, catchup=False)
def e2e_producer() -> None:
    """Hands on 5 MB, and updates the asset."""

    @task
    def large() -> str:
        return "x" * (MEGABYTES * 10**6)

    @task(outlets=[TABLE])
    def update(text: str) -> None:
        print("received", len(text))

    update(large())


@dag(schedule=[TABLE], catchup=False, is_paused_upon_creation=False)
def e2e_consumer() -> None:
    """Starts by itself."""

    @task(inlets=[TABLE])
    def consume(inlet_events=None) -> None:
        print("events", len(inlet_events[TABLE]))

    consume()


e2e_producer()
e2e_consumer()
