"""Measurements: each can run alone, and gives some figures with the baselines of the same run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from tests.bench.figures import Measured
from tests.bench.host import EMPTY, Host, by_part, ended_pods
from tests.sandbox import machine as machines
from tests.support import wait_for

MANY = 30
IDLE_SECONDS = 60
# After Airflow was started, or tasks ran, until a host does nothing.
SETTLE_SECONDS = 45
FRESH = "airflow-bench"
IMPORT = (
    "import airflow.settings;"
    " print(*[l for l in open('/proc/self/smaps_rollup') if l.startswith('Pss:')])"
)


def in_turns(times: int, first: Callable[[], None], second: Callable[[], None]) -> None:
    """Call both so many times, and begin with the other one each time: what grows warm or full
    meanwhile is then the advantage of neither."""
    for number in range(times):
        for call in (first, second) if number % 2 == 0 else (second, first):
            call()


def single(host: Host, times: int = 10) -> dict[str, Measured]:
    """One trivial task, and one bare pod: seconds, and CPU of the pod."""
    host.install_dags()
    task, cpu = Measured([]), Measured([])

    def one(seconds: list[float], used: list[float], run: Callable[[], float]) -> None:
        before = host.look()
        seconds.append(run())
        used.append(ended_pods(before, host.look()))

    in_turns(
        times,
        lambda: one(task.baseline, cpu.baseline, lambda: host.run_bare_pods(1)),
        lambda: one(task.values, cpu.values, lambda: host.run_tasks("bench_single")),
    )
    return {"task": task, "pod_cpu": cpu}


def parallel(host: Host, times: int = 3) -> dict[str, Measured]:
    """Thirty trivial tasks at once, and thirty bare pods: how many a minute, and CPU beside pods.

    That CPU is of the whole machine without the pods: of Airflow, PostgreSQL, Kubernetes and the
    rest, with what they take while nothing happens.
    """
    host.install_dags()
    tasks, services = Measured([]), Measured([])

    def many(rates: list[float], used: list[float], run: Callable[[], float]) -> None:
        before = host.look()
        rates.append(MANY * 60 / run())
        after = host.look()
        used.append((after.machine - before.machine - ended_pods(before, after)) / MANY)

    in_turns(
        times,
        lambda: many(tasks.baseline, services.baseline, lambda: host.run_bare_pods(MANY)),
        lambda: many(tasks.values, services.values, lambda: host.run_tasks("bench_parallel")),
    )
    return {"tasks": tasks, "services_cpu": services}


def idle(host: Host, times: int = 3) -> dict[str, Measured]:
    """CPU while nothing happens, by its parts; and while Airflow is stopped."""
    found = Measured([])

    def watch() -> tuple[float, dict[str, float]]:
        before, began = host.look(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        after = host.look()
        seconds = time.monotonic() - began
        cores = (after.machine - before.machine) / seconds
        return cores, {part: used / seconds for part, used in by_part(before, after).items()}

    time.sleep(SETTLE_SECONDS)
    for _ in range(times):
        cores, parts = watch()
        found.values.append(cores)
        for part, used in parts.items():
            found.parts.setdefault(part, []).append(used)
    with host.without_airflow():
        time.sleep(SETTLE_SECONDS)
        found.baseline += [watch()[0] for _ in range(times)]
    time.sleep(SETTLE_SECONDS)  # what is measured next finds it idle
    return {"idle": found}


def rerun(host: Host, times: int = 3) -> dict[str, Measured]:
    """A deploy that changes nothing, and a run of pyinfra without operations."""
    seconds, commands = Measured([]), Measured([])

    def whole() -> None:
        run = host.deploy()
        assert run.changed == [], run.changed
        seconds.values.append(run.seconds)

    in_turns(times, whole, lambda: seconds.baseline.append(host.deploy(what=EMPTY).seconds))
    # Both beside the seconds, since pyinfra takes longer to show them.
    commands.values.append(host.deploy("-vv").commands)
    commands.baseline.append(host.deploy("-vv", what=EMPTY).commands)
    return {"rerun": seconds, "commands": commands}


def memory(host: Host, times: int = 3) -> dict[str, Measured]:
    """Memory of the four units, with four times that of a process that only imports Airflow, and
    of the whole machine."""
    found, machine = Measured([]), Measured([])
    command = f'/usr/local/lib/airflow/run python -c "{IMPORT}"'
    for _ in range(times):
        units, held = host.memory()
        found.values.append(units / 2**30)
        machine.values.append(held / 2**30)
        _, kib, _ = host.shell(command).splitlines()[-1].split()
        found.baseline.append(4 * int(kib) / 2**20)
    return {"memory": found, "machine_memory": machine}


def kill(host: Host, times: int = 3) -> dict[str, Measured]:
    """SIGKILL of the scheduler until another one runs, and has queued a task triggered since."""
    host.install_dags()
    back, queues = zip(*(_kill_once(host) for _ in range(times)), strict=True)
    return {"back": Measured([*back]), "queues": Measured([*queues])}


def _kill_once(host: Host) -> tuple[float, float]:
    kill = "date +%s.%N; systemctl kill -s SIGKILL --kill-whom=main airflow-scheduler"
    killed = float(host.shell(kill))
    started = (
        'runuser -u postgres -- psql -XAtqd airflow -c "select count(*) from job where'
        " job_type = 'SchedulerJob' and state = 'running'"
        f' and start_date > to_timestamp({killed})"'
    )
    wait_for(lambda: host.shell(started) == "1", 60, "a new scheduler", 0.05)
    back = float(host.shell("date +%s.%N"))
    run = host.api.trigger("bench_single")

    def queued() -> bool:
        return any(task["queued_when"] for task in host.api.tasks("bench_single", run))

    wait_for(queued, 60, "the task is queued", 0.1)
    queues = float(host.shell("date +%s.%N"))
    wait_for(lambda: host.api.run_state("bench_single", run) == "success", 60, "the run succeeds")
    return back - killed, queues - killed


def image(host: Host, _: int = 1) -> dict[str, Measured]:
    """Size of the worker image, as the node has it."""
    images = json.loads(host.shell("crictl images -o json"))["images"]
    sizes = [
        int(each["size"])
        for each in images
        if any("/airflow-worker" in tag for tag in each["repoTags"])
    ]
    return {"image": Measured([max(sizes) / 2**30])}


def fresh(host: Host, times: int = 1) -> dict[str, Measured]:
    """A new machine and the first deploy into it. A run before has filled the caches."""
    found = Measured([])
    for _ in range(times):
        machines.remove(FRESH)
        began = time.monotonic()
        machines.create(FRESH, host.release)
        found.baseline.append(time.monotonic() - began)
        Host(FRESH, host.release, host.checkout).deploy()
        found.values.append(time.monotonic() - began)
        machines.remove(FRESH)
    return {"fresh": found}


MEASUREMENTS: dict[str, Callable[..., dict[str, Measured]]] = {
    each.__name__: each for each in (single, parallel, idle, rerun, memory, kill, image, fresh)
}


def measure(host: Host, names: list[str]) -> Iterator[dict[str, Measured]]:
    """Each of the measurements, with its figures printed as soon as it has them."""
    for name in names:
        found = MEASUREMENTS[name](host)
        for figure, measured in found.items():
            print(measured.told(figure), flush=True)
        yield found
