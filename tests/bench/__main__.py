"""Measure a deployed machine: `AIRFLOW_SANDBOX=name uv run python -m tests.bench [FIGURE …]`.

Each figure is printed as it is measured; `--json FILE` keeps all values. Nothing else should run on
the machine meanwhile; the figures are of this machine on this day, so compare ratios.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import yaml

from tasks.airflow.services import SERVICES
from tasks.layout import POD_TEMPLATE
from tests.e2e.support import Airflow, bring_dag, deploy, log_in, machine_name
from tests.sandbox import machine as machines
from tests.support import wait_for

DAGS = Path(__file__).parent / "dags"


VALUES: dict[str, list[float]] = {}  # of each figure, in the order of measuring


def note(figure: str, unit: str, values: list[float]) -> float:
    """Print a figure's median and spread, and keep its values; returns the median."""
    VALUES[f"{figure} ({unit})"] = values
    median = statistics.median(values)
    print(
        f"{figure}: median {median:.2f} {unit} of {len(values)}"
        f" ({min(values):.2f} to {max(values):.2f})",
        flush=True,
    )
    return median


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
    note("no-op rerun", "s", seconds)
    note("no-op rerun", "remote commands", [commands])
    print(f"{operations} operations")


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


# The CPU seconds of all processes of the machine since they began, with those of the processes that
# they waited for, by program. A name in brackets may have spaces.
CPU = (
    "cat /proc/[0-9]*/stat 2>/dev/null | sed -E 's/^[0-9]+ \\((.*)\\) /\\1|/'"
    " | awk -F'|' '{split($2, f, \" \"); s[$1] += f[12] + f[13] + f[14] + f[15]}"
    " END {for (n in s) print s[n] / 100, n}'"
)


def _cpu() -> dict[str, float]:
    """CPU seconds so far, by program."""
    lines = (line.split(" ", 1) for line in shell(CPU).splitlines())
    return {name: float(seconds) for seconds, name in lines}


def _bare(count: int, *command: str) -> float:
    """Run pods of the task pods' template without Airflow; returns seconds until all succeeded."""
    template = yaml.safe_load(shell(f"cat {POD_TEMPLATE}"))
    namespace = template["metadata"]["namespace"]
    pods = []
    for number in range(count):
        pod = json.loads(json.dumps(template))
        pod["metadata"] |= {"name": f"bench-{number}", "labels": {"bench": "bare"}}
        pod["spec"]["containers"][0]["args"] = [*command]
        pods.append(pod)
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}).encode()
    kubectl = f"kubectl -n {namespace}"
    shell(f"{kubectl} delete pods -l bench=bare --ignore-not-found")
    began = time.monotonic()
    machines.run(machines.load(machine_name()), f"{kubectl} create -f -", stdin=manifest)
    shell(
        f"{kubectl} wait pods -l bench=bare --for=jsonpath={{.status.phase}}=Succeeded"
        " --timeout=180s"
    )
    took = time.monotonic() - began
    shell(f"{kubectl} delete pods -l bench=bare")
    return took


def single() -> None:
    """Trigger to end of one trivial task, warm; and one bare pod that runs `true`, in turns."""
    install_dags()
    api, seconds, bare = airflow(), [], []
    _run(api, "bench_single", 60)
    for _ in range(10):
        bare.append(_bare(1, "true"))
        triggered, ended = _run(api, "bench_single", 60)
        seconds.append(ended - triggered)
    pod = note("bare pod", "s", bare)
    task = note("trigger to end of a trivial task", "s", seconds)
    print(f"a trivial task takes {task / pod:.2f} times a bare pod")


def parallel() -> None:
    """Thirty trivial tasks at once, and thirty bare pods, in turns; the machine's CPU per task."""
    install_dags()
    api, rates, bare, cpu = airflow(), [], [], []
    for _ in range(3):
        bare.append(30 * 60 / _bare(30, "python", "-c", "pass"))
        before = sum(_cpu().values())
        triggered, ended = _run(api, "bench_parallel", 180)
        cpu.append((sum(_cpu().values()) - before) / 30)
        rates.append(30 * 60 / (ended - triggered))
    pods = note("30 bare pods", "a minute", bare)
    tasks = note("30 parallel trivial tasks", "a minute", rates)
    note("CPU of the machine per task", "s", cpu)
    print(f"30 parallel tasks reach {tasks / pods:.2f} of 30 bare pods")


def idle() -> None:
    """CPU of a machine on which nothing happens, in cores; the programs that take most."""
    before = _cpu()
    began = time.monotonic()
    time.sleep(120)
    after, seconds = _cpu(), time.monotonic() - began
    used = {name: (value - before.get(name, 0)) / seconds for name, value in after.items()}
    note("idle machine", "cores", [sum(used.values())])
    most = sorted(used.items(), key=lambda each: -each[1])[:12]
    print(", ".join(f"{name} {value:.3f}" for name, value in most))


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
    "idle": idle,
    "kill": kill,
    "memory": memory,
    "image": image,
    "fresh": fresh,
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--json", type=Path, help="write the values there")
    chosen = parser.parse_args()
    for name in chosen.figures or list(FIGURES):
        FIGURES[name]()
        if chosen.json:
            chosen.json.write_text(json.dumps(VALUES, indent=2) + "\n")


if __name__ == "__main__":
    main()
