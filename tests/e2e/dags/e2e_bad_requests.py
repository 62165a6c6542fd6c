"""Tasks that ask for things of other tasks; for the end-to-end tests."""

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from airflow.sdk import Variable, dag, task

LOGS = Path("/var/log/airflow")


def wait_for_variable(key):
    """The value of a variable, which is made while the task runs."""
    end = time.monotonic() + 240
    while not (value := Variable.get(key, default="")):
        assert time.monotonic() < end, key
        time.sleep(1)
    return value


def status(method, url, token, body):
    """How the api-server answers."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    trusting = ssl.create_default_context(cafile=os.environ["AIRFLOW__API__SSL_CERT"])
    try:
        with urllib.request.urlopen(request, timeout=20, context=trusting) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@dag(schedule=None, catchup=False)
def e2e_bad_requests() -> None:
    """One task asks in the name of the other, which only waits for the end of that."""

    @task
    def ask() -> None:
        requests = wait_for_variable("e2e_requests")
        server = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].removesuffix("/execution/")
        answers = [
            status(method, server + path, token, body)
            for method, path, token, body in json.loads(requests)
        ]
        print("answers", json.dumps(answers))

    @task
    def other() -> None:
        wait_for_variable("e2e_other")

    ask()
    other()


e2e_bad_requests()


@dag(schedule=None, catchup=False)
def e2e_links() -> None:
    """A task that leaves links to files of the host where the web page looks for its log."""

    @task
    def plant(targets, run_id=None) -> None:
        folder = LOGS / f"dag_id=e2e_links/run_id={run_id}/task_id=plant"
        (LOGS / "e2e_inside").write_text("a line of a file among the logs\n")
        log = folder / "attempt=1.log"
        log.unlink()
        log.symlink_to(targets[0])
        for number, target in enumerate([*targets, str(LOGS / "e2e_inside")]):
            (folder / f"attempt=1.log.{number}").symlink_to(target)

    plant(
        [
            "/etc/airflow/kubeconfig",
            "/etc/airflow/airflow.cfg",
            "/etc/passwd",
            "/proc/self/environ",
            "../../../../../../etc/passwd",
        ]
    )


e2e_links()
