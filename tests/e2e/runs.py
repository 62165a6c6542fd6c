"""Runs of DAGs: how far they are, and DAGs of two tasks whose first one waits as a test wants."""

from __future__ import annotations

import urllib.error

from tests.e2e.support import SLACK, Airflow
from tests.support import wait_for

# A test that wants the first task to wait makes the variable; the second task comes after.
DAG = """
import time
from datetime import timedelta

from airflow.sdk import Variable, dag, task


@dag(dag_id="{name}", schedule=None, catchup=False)
def two_tasks():
    @task(retries=40, retry_delay=timedelta(seconds=3))
    def first():
        print("first says {words}", flush=True)
        end = time.monotonic() + 900
        value = Variable.get("{name}", default="go")
        # While the api-server is away, it looks as if there were no variable.
        while value != "go":
            if time.monotonic() > end:
                raise TimeoutError("nobody let it end: the test was too slow")
            time.sleep(1)
            value = Variable.get("{name}", default="wait")

    @task
    def second():
        print("second says {words}")

    first() >> second()


two_tasks()
"""


ENDED = ("success", "failed")


def state(airflow: Airflow, dag: str, run: str) -> str:
    """State of a run; nothing while the api-server is away."""
    try:
        return airflow.run_state(dag, run)
    except OSError:
        return ""


def tries(airflow: Airflow, dag: str, run: str) -> dict[str, tuple[str, int]]:
    """State and number of the try of each task."""
    return {t["task_id"]: (t["state"], t["try_number"]) for t in airflow.tasks(dag, run)}


def ends_well(airflow: Airflow, dag: str, run: str, seconds: float = 120 + SLACK) -> None:
    """Wait for the run's success."""
    found = wait_for(lambda: (s := state(airflow, dag, run)) in ENDED and s, seconds, "it ends")
    assert found == "success", [airflow.log(dag, run, task) for task in tries(airflow, dag, run)]


def healthy(airflow: Airflow) -> bool:
    """Whether all components are healthy."""
    return set(airflow.health().values()) == {"healthy"}


def recovers(airflow: Airflow, dag: str, seconds: float) -> None:
    """After an outage a run of the DAG is taken and ends well, each in so many seconds; then all
    components are healthy."""

    def triggered() -> str:
        try:
            return airflow.trigger(dag)
        except OSError:
            return ""

    run = wait_for(triggered, seconds, "a run is taken")
    ends_well(airflow, dag, run, seconds)
    wait_for(lambda: healthy(airflow), 60 + SLACK, "all components are healthy")


def dag(name: str, words: str) -> str:
    """Text of a DAG file."""
    return DAG.format(name=name, words=words)


class Runs:
    """Runs of such DAGs."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow

    def hold(self, name: str) -> None:
        """Let the first task of coming runs wait."""
        self.set(name, "wait")

    def release(self, name: str) -> None:
        """Let it end."""
        self.set(name, "go")

    def set(self, name: str, value: str) -> None:
        """Give a variable of Airflow a value."""
        body = {"key": name, "value": value}
        try:
            self.airflow.request("PATCH", f"/variables/{name}", body)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            self.airflow.request("POST", "/variables", body)

    def begin(self, name: str, words: str) -> str:
        """Trigger a run and wait until its first task says the words; returns the run's id."""
        run = self.airflow.trigger(name)

        def said() -> bool:
            first = [t for t in self.airflow.tasks(name, run) if t["task_id"] == "first"]
            if not first or first[0]["state"] not in ("running", "success"):
                return False
            tries = first[0]["try_number"]
            return f"first says {words}" in self.airflow.log(name, run, "first", tries)

        wait_for(said, 180, f"the first task of {name} says {words}", every=1)
        return run

    def end(self, name: str, run: str, words: str) -> None:
        """Wait until a run ends well, its second task saying the words."""

        def ended() -> bool:
            return self.airflow.run_state(name, run) in ("success", "failed")

        wait_for(ended, 240, f"the run of {name} ends", every=1)
        assert self.airflow.run_state(name, run) == "success"
        # The pod uploads its log after it has told that its task ended.
        wait_for(
            lambda: f"second says {words}" in self.airflow.log(name, run, "second"),
            60,
            f"the log of {name} is there",
            every=1,
        )

    def whole(self, name: str, words: str) -> None:
        """A run from its beginning to its end."""
        self.end(name, self.begin(name, words), words)
