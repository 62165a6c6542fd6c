"""Parts and whole machines die: tasks go on, and so does the address for people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest

from tasks.layout import ADDRESS_CONFIG
from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, dag
from tests.e2e.servers import GitServer, S3Server
from tests.e2e.several import (
    BUCKET,
    DAG,
    NAMESPACE,
    OWNER,
    Deploying,
    active_one,
    config,
    dag_processor,
    is_healthy,
    probe,
    reads_dags,
    shell_of,
    started,
    waiting_runs,
)
from tests.e2e.support import SLACK, Airflow, log_in
from tests.sandbox import common
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

# Within this time another scheduler adopts the tasks of a dead one: see tasks/airflow/config.py.
ADOPTED = 90
# Of the test with a dead machine: tasks that write down each of their tries.
LEDGER, LATER = "e2e_ledger", "e2e_ledger_later"
RUNNING, QUEUED = 20, 20  # the second one is of tasks that have no pod, since a quota is full
COUNTS = {LEDGER: 30, LATER: RUNNING + QUEUED - 30}
LEDGER_DAG = """
import time
import uuid

from airflow.sdk import Variable, dag, get_current_context, task


@dag(dag_id="{name}", schedule=None, catchup=False, max_active_tasks=40)
def ledger():
    @task
    def write(number):
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        attempt = get_current_context()["ti"].try_number
        key = f"ledger/{name}/{{number}}/{{attempt}}/{{uuid.uuid4()}}"
        S3Hook("s3_logs").load_string("", f"{{key}}/begin", "{bucket}")
        end = time.monotonic() + 1200
        # While the api-servers are away, it looks as if there were no variable.
        while Variable.get("{held}", default="wait") != "go":
            if time.monotonic() > end:
                raise TimeoutError("nobody let it end: the test was too slow")
            time.sleep(5)
        S3Hook("s3_logs").load_string("", f"{{key}}/end", "{bucket}")

    write.expand(number=list(range({count})))


ledger()
"""
SEEN_PODS = "/root/e2e-ledger-pods"


def adopted(host: Machine, job_host: str) -> bool:
    """Whether no unfinished task belongs to a scheduler of a host."""
    question = (
        "select count(*) from task_instance t join job j on j.id = t.queued_by_job_id"
        f" where t.state in ('queued', 'running') and split_part(j.hostname, '.', 1) = '{job_host}'"
    )
    return shell_of(host)(f'{OWNER} "{question}"') == "0"


def test_another_host_reads_dags_when_the_active_one_stops(
    airflow: Airflow, hosts: tuple[Machine, Machine], git: GitServer
) -> None:
    active = active_one(hosts)
    (other,) = (host for host in hosts if host is not active)
    shell_of(active)("systemctl stop airflow-dag-processor")
    wait_for(lambda: reads_dags(other), 30 + SLACK, "the other one works")
    git.push("team", {f"{DAG}_later.py": dag(f"{DAG}_later", "later")})
    shell_of(active)("systemctl start airflow-dag-processor")
    Runs(airflow).whole(f"{DAG}_later", "later")
    assert active_one(hosts) is other
    # One that hangs is found by its own host.
    hanging = dag_processor(other)
    shell_of(other)(f"kill -STOP {hanging}")
    wait_for(
        lambda: {dag_processor(host) for host in hosts} - {"", hanging},
        90 + SLACK,
        "another one works, on whichever host",
        every=2,
    )


@pytest.mark.parametrize("place", [0, 1])
def test_a_dead_scheduler_costs_no_task(
    place: int, airflow: Airflow, hosts: tuple[Machine, Machine]
) -> None:
    dead = hosts[place]
    with waiting_runs(airflow):
        shell_of(dead)(
            "systemctl kill --signal=KILL airflow-scheduler; systemctl stop airflow-scheduler"
        )
        wait_for(lambda: adopted(hosts[0], dead.name), ADOPTED + SLACK, "its tasks are adopted")
    shell_of(dead)("systemctl start airflow-scheduler")
    wait_for(lambda: is_healthy(dead), 60 + SLACK, "it is healthy again")


def test_a_dead_api_server_costs_no_task(airflow: Airflow, hosts: tuple[Machine, Machine]) -> None:
    """nginx of its host passes the requests of tasks on."""
    second = shell_of(hosts[1])
    with waiting_runs(airflow):
        second("systemctl stop airflow-api-server")
        url = f"https://{hosts[1].name}:8081/execution/health"
        options = f"--cacert /etc/airflow/tls/pods-ca.pem --resolve {hosts[1].name}:8081:127.0.0.1"
        assert "healthy" in second(f"curl -fsS {options} {url}")
        time.sleep(30)  # some heartbeats
    second("systemctl start airflow-api-server")


@contextmanager
def pods_counted(shell: Shell) -> Iterator[None]:
    """At most so many pods run, and each pod of the ledger is written down on the story's machine,
    however short it lives."""
    columns = ",".join(
        f"{name}:.metadata.{path}"
        for name, path in (
            ("NAME", "name"),
            ("DAG", "labels.dag_id"),
            ("NUMBER", "labels.map_index"),
            ("TRY", "labels.try_number"),
        )
    )
    get = (
        f"kubectl --kubeconfig=/root/.kube/config -n {NAMESPACE} get pods --watch --no-headers"
        f" -l 'dag_id in ({LEDGER},{LATER})' -o custom-columns={columns}"
    )
    shell(f"kubectl -n {NAMESPACE} create quota e2e --hard=pods={RUNNING}")
    shell(
        "systemd-run --quiet --collect --unit=e2e-pods --property=Restart=always"
        f" --property=StandardOutput=append:{SEEN_PODS} {get}"
    )
    try:
        yield
    finally:
        shell(f"systemctl stop e2e-pods; kubectl -n {NAMESPACE} delete quota e2e")


def ledger_states(host: Machine, of: str = "") -> dict[str, int]:
    """How many tasks of the ledger are in each state, of all schedulers or of one host's."""
    whose = f"and split_part(j.hostname, '.', 1) = '{of}'" if of else ""
    question = (
        "select coalesce(t.state, 'none') || ' ' || count(*) from task_instance t"
        " left join job j on j.id = t.queued_by_job_id"
        f" where t.dag_id like '{LEDGER}%' {whose} group by t.state"
    )
    lines = shell_of(host)(f'{OWNER} "{question}"').splitlines()
    return {state: int(count) for state, count in map(str.split, lines)}


def executions(s3: S3Server, what: str) -> dict[tuple[str, str], list[str]]:
    """The tries of each task that have begun, or ended, with the name that each has chosen."""
    found: dict[tuple[str, str], list[str]] = {}
    for key in s3.objects(BUCKET):
        folder, _, rest = key.partition("/")
        if folder == "ledger" and rest.endswith(f"/{what}"):
            name, number, execution = rest.removesuffix(f"/{what}").split("/", 2)
            found.setdefault((name, number), []).append(execution)
    return found


def test_a_dead_machine_costs_no_task(
    airflow: Airflow,
    hosts: tuple[Machine, Machine],
    deployed: Deploying,
    git: GitServer,
    s3: S3Server,
    shell: Shell,
) -> None:
    first, second = hosts
    every = {(name, str(number)) for name, count in COUNTS.items() for number in range(count)}
    texts = {
        f"{name}.py": LEDGER_DAG.format(name=name, count=count, held=LEDGER, bucket=BUCKET)
        for name, count in COUNTS.items()
    }
    git.push("team", texts)
    waiting = Runs(airflow)
    waiting.hold(LEDGER)
    with pods_counted(shell):
        # All that runs is the second host's, and some of what waits.
        shell_of(first)("systemctl stop airflow-scheduler")
        begun = {LEDGER: airflow.trigger(LEDGER)}
        wait_for(
            lambda: (
                len(executions(s3, "begin")) == RUNNING
                and ledger_states(first, second.name)
                == {"running": RUNNING, "queued": COUNTS[LEDGER] - RUNNING}
            ),
            300 + SLACK,
            f"{RUNNING} tasks run",
            every=3,
        )
        shell_of(first)("systemctl start airflow-scheduler")
        begun[LATER] = airflow.trigger(LATER)
        wait_for(
            lambda: ledger_states(first) == {"running": RUNNING, "queued": QUEUED},
            120 + SLACK,
            f"{QUEUED} tasks wait",
            every=2,
        )
        ran = executions(s3, "begin")
        dead = time.monotonic()
        common.run(["podman", "kill", second.name])
        wait_for(lambda: adopted(first, second.name), ADOPTED + SLACK, "its tasks are adopted")
        print(f"adopted within {time.monotonic() - dead:.0f} s")
        wait_for(lambda: reads_dags(first), 60 + SLACK, "the living host reads DAGs")
        assert is_healthy(first)
        waiting.release(LEDGER)
        for name, identity in begun.items():
            runs.ends_well(airflow, name, identity, 600 + SLACK)
    # Each task ran once, from its begin to its end, and those that ran go on in the same try.
    begins, ends = (executions(s3, what) for what in ("begin", "end"))
    assert begins == ends and begins.keys() == every
    assert {task: len(tries) for task, tries in begins.items()} == dict.fromkeys(every, 1)
    assert ran.items() <= begins.items()
    # Each try had one pod; one that never began has none, or one that did not start.
    pods = {tuple(line.split()) for line in shell(f"cat {SEEN_PODS}").splitlines()}
    by_try = Counter((name, number, attempt) for _, name, number, attempt in pods)
    assert {*by_try.values()} == {1}, by_try
    tried = {(*task, each.split("/")[0]) for task, tries in begins.items() for each in tries}
    assert tried <= by_try.keys()
    run = deployed()
    assert run.code != 0 and "is not in this run" in run.output
    machines.create(second.name, second.release)  # starts it again
    wait_for(lambda: is_healthy(second), 120 + SLACK, "it is healthy again", every=2)
    run = deployed()
    assert run.code == 0, run.output
    assert run.changed == []


# One address for people

# Seconds until a host is found to fail, and another one has the address: a silent page is given two
# times 3 s, with 2 s between two looks, and the word of a host is waited for for 3.6 s.
MOVED = 14


def holders(hosts: Iterable[Machine], address: str) -> list[Machine]:
    """Those hosts that have an address."""
    ask = f"ip -o -4 address show to {address}/32"
    return [host for host in hosts if shell_of(host)(ask)]


def holder_and_other(hosts: tuple[Machine, Machine], shared: Machine) -> tuple[Machine, Machine]:
    """The host that has the address, and the other one."""
    (holder,) = holders(hosts, shared.address)
    (other,) = (host for host in hosts if host is not holder)
    return holder, other


def moves(hosts: tuple[Machine, Machine], shared: Machine, fails: Callable[[], object]) -> None:
    """The address moves, and the page with it, when something fails where it is."""
    _, other = holder_and_other(hosts, shared)
    with probe([shared]) as probed:
        (page,) = probed.airflows
        fails()
        began = time.monotonic()
        wait_for(lambda: holders([other], shared.address), MOVED + SLACK, "the address moves")
        wait_for(page.health, 30 + SLACK, "the page answers")
        print(f"after {time.monotonic() - began:.0f} s the page answers elsewhere")
    print(f"{len(probed.away)} of {probed.asked} requests failed")


def is_well_again(hosts: tuple[Machine, Machine], shared: Machine, host: Machine) -> None:
    """A host that failed is healthy, and does not take the address back."""
    (other,) = holders(hosts, shared.address)
    assert other is not host
    wait_for(lambda: is_healthy(host), 120 + SLACK, "it is healthy again", every=2)
    time.sleep(10)  # two good looks at the page, and the time that a host waits for another's word
    assert holders(hosts, shared.address) == [other]


def test_one_host_has_the_address_for_people(
    airflow: Airflow,
    hosts: tuple[Machine, Machine],
    shared: Machine,
    deployed: Deploying,
    shell: Shell,
) -> None:
    holder_and_other(hosts, shared)
    page = log_in(shared)
    assert set(page.health().values()) == {"healthy"}
    # Nothing takes it for the address of the host that has it.
    assert deployed().changed == []
    slices = shell(f"kubectl -n {NAMESPACE}-control get endpointslices -o yaml")
    assert shared.address not in slices and all(host.address in slices for host in hosts)
    Runs(page).whole(DAG, "hello")


@pytest.mark.parametrize("unit", ["nginx", "airflow-api-server"])
def test_the_address_leaves_a_page_that_does_not_answer(
    unit: str, airflow: Airflow, hosts: tuple[Machine, Machine], shared: Machine
) -> None:
    holder, _ = holder_and_other(hosts, shared)
    moves(hosts, shared, lambda: shell_of(holder)(f"systemctl stop {unit}"))
    shell_of(holder)(f"systemctl start {unit}")
    is_well_again(hosts, shared, holder)


def test_a_change_moves_the_address_before_a_page_stops(
    airflow: Airflow, hosts: tuple[Machine, Machine], shared: Machine, deployed: Deploying
) -> None:
    before = [started(host) for host in hosts]
    with waiting_runs(airflow), probe([shared]) as probed:
        run = deployed(**config(parallelism="19"))
        assert run.code == 0, run.output
    for host, old in zip(hosts, before, strict=True):
        assert started(host)["api-server"] > old["api-server"]
    # A request may be under way at each of two moves; the start of an api-server takes 20 of them.
    assert probed.asked > 20 and len(probed.away) <= 4, probed.away
    holder_and_other(hosts, shared)


def test_the_address_leaves_a_dead_machine(
    airflow: Airflow, hosts: tuple[Machine, Machine], shared: Machine, deployed: Deploying
) -> None:
    holder, _ = holder_and_other(hosts, shared)
    moves(hosts, shared, lambda: common.run(["podman", "kill", holder.name]))
    machines.create(holder.name, holder.release)  # starts it again
    is_well_again(hosts, shared, holder)
    assert deployed(**config(parallelism="19")).changed == []


def test_without_the_setting_no_host_has_the_address(
    airflow: Airflow, hosts: tuple[Machine, Machine], shared: Machine, deployed: Deploying
) -> None:
    without = {"web_virtual_address": None}
    run = deployed(**without)
    assert run.code == 0, run.output
    assert holders(hosts, shared.address) == []
    for host in hosts:
        there = shell_of(host)
        assert there("systemctl is-active keepalived || true") == "inactive"
        assert there(f"ls {ADDRESS_CONFIG} 2>/dev/null || true") == ""
        assert is_healthy(host)
    assert deployed(**without).changed == []
