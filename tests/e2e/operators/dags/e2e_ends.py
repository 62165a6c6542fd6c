"""Tasks that end by force: they fail, and the run goes on."""

import os
import signal

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False)
def e2e_ends() -> None:
    """The first three fail; the last one tells that the run went on."""

    @task
    def memory() -> None:
        print("takes memory", flush=True)
        held = []
        while True:
            held.append(bytearray(b"x") * (64 * 2**20))

    @task
    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def crashed() -> None:
        os.abort()

    @task(trigger_rule="all_done")
    def last() -> None:
        print("went on")

    [memory(), killed(), crashed()] >> last()


e2e_ends()
