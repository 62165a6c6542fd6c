"""Measure a task's processes, without a machine: `python -m tests.bench.process VENV [COMMIT]`.

VENV is a virtual environment with the packages of files/opt/airflow/requirements, compiled. Each
kind of task runs against a stand-in of the Execution API, with Airflow's own program and with the
deploy's, and must make the same requests and log the same lines. Then a trivial task is run by
Airflow's own program, by the deploy's of COMMIT (HEAD) and by that of this folder, in turns: CPU
seconds of the process and its children. Figures are of this machine on this day: compare ratios.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).parents[2]
SCRIPT = "files/image/start_task.py"
DAG = """
import logging
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import BaseHook, dag, task

@dag(schedule=None)
def trial():
    BashOperator(task_id="bash", bash_command="true")

    @task
    def python():
        logging.getLogger("own").info("a line")
        return {"a": 1}

    @task
    def fails():
        raise ValueError("as it should")

    @task.sensor(mode="reschedule")
    def sensor():
        return False

    @task
    def pulls(ti=None):
        print(ti.xcom_pull(task_ids="python"))

    @task
    def connection():
        print(BaseHook.get_connection("some").host)

    @task
    def model():
        from airflow.models import Connection
        print(Connection(conn_id="a", conn_type="http", host="example.org").get_uri())

    @task.external_python(python=__import__("sys").executable)
    def elsewhere():
        return 5

    for each in (python, fails, sensor, pulls, connection, model, elsewhere):
        each()

trial()
"""
KINDS = ("bash", "python", "fails", "sensor", "pulls", "connection", "model", "elsewhere")
NOW = "2026-01-01T00:00:00Z"
RUN = {
    "dag_run": {
        "dag_id": "trial",
        "run_id": "r",
        **dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end"), None),
        **dict.fromkeys(("run_after", "start_date"), NOW),
        **dict.fromkeys(("end_date", "partition_key"), None),
        "run_type": "manual",
        "state": "running",
        "consumed_asset_events": [],
    },
    "max_tries": 0,
}
CONNECTION = {
    "conn_id": "some",
    "conn_type": "http",
    "host": "example.org",
    **dict.fromkeys(("schema", "login", "password", "port", "extra"), None),
}
# The end of a path, and what the Execution API of Airflow 3.3.2 answers to it.
ANSWERS: list[tuple[str, str, Any]] = [
    ("PATCH", r"/run", RUN),
    ("GET", r"/connections/some", CONNECTION),
    ("GET", r"/xcoms/.*/slice", [{"a": 1}]),
    ("GET", r"/task-reschedules/.*", NOW),
]


class Api(BaseHTTPRequestHandler):
    """Answers a task's requests, and keeps them."""

    protocol_version = "HTTP/1.1"
    kept: ClassVar[list[str]] = []

    def answer(self) -> None:
        """Any request."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        path = self.path.partition("?")[0].removeprefix("/execution")
        if not path.endswith("/heartbeat"):  # one every 5 seconds
            self.kept.append(f"{self.command} {path} {body}")
        found = [
            json.dumps(each)
            for method, end, each in ANSWERS
            if method == self.command and re.search(end + "$", path)
        ]
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len((found or ["null"])[0])))
        self.end_headers()
        self.wfile.write((found or ["null"])[0].encode())

    do_GET = do_PUT = do_PATCH = do_POST = answer

    def log_message(self, format: str, *args: Any) -> None:
        """The requests are kept."""


class Trial:
    """A folder with a DAG, and the API to which its tasks belong."""

    def __init__(self, folder: Path, venv: Path) -> None:
        self.folder, self.python = folder, str(venv / "bin/python")
        for name in ("dags", "plugins", "logs"):
            (folder / name).mkdir()
        (folder / "airflow.cfg").touch()  # as in the image
        (folder / "dags/trial.py").write_text(DAG)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        bundle = {
            "name": "dags",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {},
        }
        self.environment = {
            "PATH": f"{venv}/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONHASHSEED": "0",  # Airflow sends the names of some sets
            "HOME": str(folder),
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW_CONFIG": str(folder / "airflow.cfg"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "KubernetesExecutor",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": (
                f"http://127.0.0.1:{server.server_port}/execution/"
            ),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
        }

    def run(self, script: str | None, kind: str) -> tuple[float, list[str]]:
        """Run a task; returns its CPU seconds, and its lines and requests without their times."""
        instance = {
            "id": str(uuid.UUID(int=7)),
            "dag_version_id": str(uuid.UUID(int=8)),
            "dag_id": "trial",
            "task_id": kind,
            "run_id": "r",
            "try_number": 1,
            "pool_slots": 1,
            "priority_weight": 1,
        }
        workload = {
            "type": "ExecuteTask",
            "token": "e2e",
            "ti": instance,
            "dag_rel_path": "trial.py",
            "bundle_info": {"name": "dags"},
            "log_path": f"{kind}.log",
        }
        module = "airflow.sdk.execution_time.execute_workload"
        words = [self.python, *([script, "python"] if script else [])]
        words += ["-m", module, "--json-string", json.dumps(workload)]
        Api.kept.clear()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        text = [*done.stdout.splitlines(), *done.stderr.splitlines(), str(done.returncode)]
        return cpu, sorted(map(same, text)) + [same(each) for each in Api.kept]


def same(line: str) -> str:
    """A line or a request without the part that is another each time."""
    if line.startswith("{"):
        event = json.loads(line)
        for name in ("timestamp", "duration", "bundle_prepare_ms", "dag_file_parse_ms"):
            event.pop(name, None)
        line = json.dumps(event, sort_keys=True)
    changing = r"0x[0-9a-f]+|venv-call\w+|\"pid\":\d+|\"\w+_date\":\"[^\"]+\"|datetime\([^)]*\)"
    return re.sub(changing, "*", line)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.process", description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("commit", nargs="?", default="HEAD")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the CPU seconds there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        trial = Trial(Path(name), chosen.venv.absolute())
        earlier = Path(name, "start_task.py")
        show = ["git", "-C", str(ROOT), "show", f"{chosen.commit}:{SCRIPT}"]
        earlier.write_bytes(subprocess.run(show, check=True, capture_output=True).stdout)
        scripts = {"airflow": None, chosen.commit: str(earlier), "here": str(ROOT / SCRIPT)}
        for kind in KINDS:
            expected, found = (trial.run(scripts[each], kind)[1] for each in ("airflow", "here"))
            if not any("/state " in each for each in expected):
                sys.exit("\n".join([f"{kind}: no result", *expected]))
            if expected != found:
                other = [f"- {each}" for each in expected if each not in found]
                other += [f"+ {each}" for each in found if each not in expected]
                sys.exit("\n".join([f"{kind}: not as with Airflow's own program", *other]))
            print(
                f"{kind}: {len(found)} lines and requests as with Airflow's own program", flush=True
            )
        seconds: dict[str, list[float]] = {each: [] for each in scripts}
        for _ in range(chosen.times):
            for each, script in scripts.items():
                seconds[each].append(trial.run(script, "bash")[0])
    first = statistics.median(seconds["airflow"])
    for each, measured in seconds.items():
        median = statistics.median(measured)
        print(
            f"{each}: {median:.2f} CPU seconds, median of {chosen.times}"
            f" ({min(measured):.2f} to {max(measured):.2f}), {median / first:.2f} of Airflow's"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps(seconds, indent=2) + "\n")


if __name__ == "__main__":
    main()
