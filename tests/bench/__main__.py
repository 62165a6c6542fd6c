"""Measure a deployed machine: `AIRFLOW_SANDBOX=name uv run python -m tests.bench [FIGURE …]`.

Each figure is printed as it is measured. Nothing else should run on the machine meanwhile; the
figures are of this machine on this day, so compare ratios.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tasks.airflow.services import SERVICES
from tests.e2e.support import Airflow, bring_dag, deploy, log_in, machine_name
from tests.sandbox import machine as machines
from tests.support import wait_for

DAGS = Path(__file__).parent / "dags"


def shell(command: str) -> str:
    """Run a command on the machine as root; returns its output."""
    return machines.run(machines.load(machine_name()), command).stdout.strip()


def airflow() -> Airflow:
    """The machine's REST API."""
    return log_in(machines.load(machine_name()))


def install_dags() -> None:
    """Put the DAGs of the benchmark on the machine."""
    for path in DAGS.glob("*.py"):
        bring_dag(path.stem, shell, path.read_text())


def rerun() -> None:
    """A run of the deploy that changes nothing: seconds, operations, commands on the host."""
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        run = deploy()
        seconds.append(time.monotonic() - began)
        assert run.changed == [], run.changed
    counted = deploy("-vv")
    commands = len(re.findall(r">>> ", counted.output))
    operations = len(run.json["results"]["operations"])
    print(
        f"no-op rerun: {statistics.median(seconds):.1f} s (median of 3),"
        f" {operations} operations, {commands} remote commands"
    )


def _when(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def _run(api: Airflow, dag: str, seconds: float) -> tuple[float, float]:
    """Run a DAG; returns when it was triggered and when its last task ended (Unix time)."""
    run = api.trigger(dag)
    wait_for(lambda: api.run_state(dag, run) in ("success", "failed"), seconds, f"{dag} ends")
    assert api.run_state(dag, run) == "success"
    (found,) = [
        r
        for r in api.request("GET", f"/dags/{dag}/dagRuns?order_by=-id")["dag_runs"]
        if r["dag_run_id"] == run
    ]
    ends = [_when(task["end_date"]) for task in api.tasks(dag, run)]
    return _when(found["queued_at"]), max(ends)


def single() -> None:
    """Trigger to end of one trivial task, warm."""
    install_dags()
    api, seconds = airflow(), []
    _run(api, "bench_single", 60)
    for _ in range(10):
        triggered, ended = _run(api, "bench_single", 60)
        seconds.append(ended - triggered)
    print(
        f"trigger to end of a trivial task: median {statistics.median(seconds):.2f} s of 10"
        f" ({min(seconds):.2f} to {max(seconds):.2f})"
    )


def parallel() -> None:
    """Thirty trivial tasks at once, as tasks a minute."""
    install_dags()
    api, rates = airflow(), []
    for _ in range(3):
        triggered, ended = _run(api, "bench_parallel", 180)
        rates.append(30 * 60 / (ended - triggered))
    print(
        f"30 parallel trivial tasks: median {statistics.median(rates):.1f} tasks a minute of 3"
        f" ({min(rates):.1f} to {max(rates):.1f})"
    )


def _kill_once(api: Airflow) -> tuple[float, float]:
    """Kill the scheduler; returns seconds until a new one runs, and until it queued a task."""
    kill = "date +%s.%N; systemctl kill -s SIGKILL --kill-whom=main airflow-scheduler"
    killed = float(shell(kill))
    started = (
        'runuser -u postgres -- psql -XAtqd airflow -c "select count(*) from job where'
        " job_type = 'SchedulerJob' and state = 'running'"
        f' and start_date > to_timestamp({killed})"'
    )
    wait_for(lambda: shell(started) == "1", 60, "a new scheduler", 0.05)
    back = float(shell("date +%s.%N"))
    run = api.trigger("bench_single")

    def queued() -> bool:
        return any(task["queued_when"] for task in api.tasks("bench_single", run))

    wait_for(queued, 60, "the task is queued", 0.1)
    scheduling = float(shell("date +%s.%N"))
    wait_for(lambda: api.run_state("bench_single", run) == "success", 60, "the run succeeds")
    return back - killed, scheduling - killed


def kill() -> None:
    """SIGKILL of the scheduler until another runs and has queued a task triggered since."""
    install_dags()
    api = airflow()
    _run(api, "bench_single", 60)
    back, scheduling = zip(*(_kill_once(api) for _ in range(3)), strict=True)
    print(
        f"scheduler after SIGKILL: back after {statistics.median(back):.1f} s, has queued a new"
        f" task after {statistics.median(scheduling):.1f} s (medians of 3)"
    )


def memory() -> None:
    """Memory of the four units together, with and without the files they have in the cache."""
    units = " ".join(service.unit for service in SERVICES)
    total = sum(int(line) for line in shell(f"systemctl show -P MemoryCurrent {units}").split())
    pss = shell(
        "for u in " + units + "; do cat /sys/fs/cgroup/systemd/system.slice/$u/cgroup.procs"
        " /sys/fs/cgroup/system.slice/$u/cgroup.procs 2>/dev/null; done | sort -u |"
        " while read p; do awk '/^Pss:/ {print $2}' /proc/$p/smaps_rollup; done"
        " | awk '{s += $1} END {print s}'"
    )
    print(
        f"memory of the four units: {total / 2**30:.2f} GiB (control group),"
        f" {int(pss) / 2**20:.2f} GiB (proportional set size)"
    )


def image() -> None:
    """Size of the worker image, unpacked."""
    print("worker image:", shell("crictl images | awk '/airflow-worker/ {print $4}'"))


def fresh() -> None:
    """A new machine and the first deploy into it, caches full; the web page answers at its end."""
    name = "airflow-bench"
    machines.remove(name)
    machines.create(name)
    began = time.monotonic()
    done = subprocess.run(
        [
            "env",
            f"AIRFLOW_SANDBOX={name}",
            "pyinfra",
            "--yes",
            "inventories/sandbox.py",
            "deploy.py",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"first deploy into a fresh machine: {time.monotonic() - began:.0f} s")
    print("\n".join(re.findall(r"operation: .*(?:\n(?!-->).*)*?took \d+ s", done.stderr)))
    machines.remove(name)
    assert done.returncode == 0, done.stderr


FIGURES: dict[str, Callable[[], None]] = {
    "rerun": rerun,
    "single": single,
    "parallel": parallel,
    "kill": kill,
    "memory": memory,
    "image": image,
    "fresh": fresh,
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    chosen = parser.parse_args().figures or list(FIGURES)
    for name in chosen:
        FIGURES[name]()


if __name__ == "__main__":
    main()
