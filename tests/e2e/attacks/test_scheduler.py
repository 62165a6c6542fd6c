"""Values of DAGs and tasks that the database or Airflow refuses: they don't end its services."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.support import SLACK, Airflow, bring_dag, properties
from tests.support import wait_for

LARGEST = 2**31 - 1
SMOKE_TEST = "airflow_smoke_test"
DAG = """
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, DeadlineAlert, DeadlineReference, SyncCallback

deadline = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(seconds=1),
    callback=SyncCallback("builtins.print"),
)
with DAG(
    "@NAME@",
    schedule="@once",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    is_paused_upon_creation=False,
    @OPTIONS@
):
    @TASKS@
"""
TASKS = {
    "queue": 'EmptyOperator(task_id="queue", queue="x" * 257)',
    "retries": 'EmptyOperator(task_id="retries", retries=2**31)',
    "owner": 'EmptyOperator(task_id="owner", owner="x" * 501)',
    # It never begins, so the run does not end before its deadline.
    "slots": 'BashOperator(task_id="slots", bash_command="true", pool_slots=2**31)',
    "weights": 'EmptyOperator(task_id="first", priority_weight=2**31 - 1) >>'
    ' EmptyOperator(task_id="last", priority_weight=2**31 - 1)',
}
# What the page says of each, if it is alone in a DAG.
SENTENCES = {
    "queue": "queue has 257 characters, but Airflow's database holds 256: choose a shorter one",
    "retries": f"retries is {LARGEST + 1}, but Airflow's database holds numbers",
    "owner": "owner has 501 characters, but Airflow's database holds 500",
    "slots": f"pool_slots is {LARGEST + 1}, but Airflow's database holds numbers",
    "weights": "priority_weight of first and of all tasks downstream of it add up to"
    f" {2 * LARGEST}",
}
# The code of a DAG runs in the process that asks the policy.
NO_POLICY = """
from airflow import settings

settings.dag_policy = settings.task_policy = lambda *_, **__: None
"""


def text(name: str, tasks: str, options: str = "") -> str:
    """A DAG file."""
    filled = DAG.replace("@NAME@", name).replace("@TASKS@", tasks)
    return filled.replace("@OPTIONS@", options)


def lives(shell: Shell) -> list[str]:
    """What a scheduler that ends changes."""
    return properties(shell, "airflow-scheduler", "NRestarts", "InvocationID", "MainPID")


@pytest.fixture(autouse=True)
def same_scheduler(shell: Shell) -> Iterator[None]:
    """The scheduler that was there before the test is there after it."""
    before = lives(shell)
    yield
    shell("rm -f /opt/airflow/dags/e2e_large_*.py")
    assert lives(shell) == before


def test_such_a_dag_is_an_import_error(airflow: Airflow, shell: Shell) -> None:
    for kind, tasks in TASKS.items():
        bring_dag(f"e2e_large_{kind}", shell, text(f"e2e_large_{kind}", tasks))

    def all_said() -> bool:
        errors = airflow.request("GET", "/importErrors?limit=100")["import_errors"]
        said = {each["filename"].rpartition("/")[2]: each["stack_trace"] for each in errors}
        return all(
            words in said.get(f"e2e_large_{kind}.py", "") for kind, words in SENTENCES.items()
        )

    wait_for(all_said, 90 + SLACK, "the web page says so")


def test_one_that_the_policy_did_not_see_does_no_harm(airflow: Airflow, shell: Shell) -> None:
    name = "e2e_large_all"
    all_tasks = text(name, "\n    ".join(TASKS.values()), "deadline=deadline,")
    bring_dag(name, shell, NO_POLICY + all_tasks)

    def begun() -> str | None:
        known = airflow.request("GET", f"/dags?dag_id_pattern={name}")["dags"]
        runs = airflow.request("GET", f"/dags/{name}/dagRuns")["dag_runs"] if known else []
        return runs[0]["dag_run_id"] if runs and runs[0]["state"] == "running" else None

    run = wait_for(begun, 90 + SLACK, "the scheduler makes the run")
    assert run is not None
    tasks = {each["task_id"]: each for each in airflow.tasks(name, run)}
    assert tasks["queue"]["queue"] == "x" * 256
    assert tasks["retries"]["max_tries"] == LARGEST
    assert tasks["slots"]["pool_slots"] == LARGEST
    assert tasks["first"]["priority_weight"] == LARGEST

    ask = (
        'cd / && runuser -u airflow -- psql -XAtq airflow -c "select distinct state from callback'
        f" where type = 'executor' and data::text like '%{name}%'\""
    )
    wait_for(lambda: shell(ask) == "failed", 60 + SLACK, "the callback fails")
    said = shell("journalctl -u airflow-scheduler --since=-10min --no-pager")
    assert "KubernetesExecutor does not run callbacks" in said
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    airflow.request("PATCH", f"/dags/{name}", {"is_paused": True})


MAPPED = 'BashOperator.partial(task_id="many").expand(bash_command=["true"] * 200, env=[{}] * 200)'


def test_files_that_end_no_dag_processor(airflow: Airflow, shell: Shell) -> None:
    """A character that the database refuses, and 40,000 task instances."""
    before = properties(shell, "airflow-dag-processor", "NRestarts", "MainPID")
    command = 'BashOperator(task_id="nul", bash_command="true\\0")'
    for kind, tasks in (("nul", command), ("mapped", MAPPED)):
        bring_dag(f"e2e_large_{kind}", shell, text(f"e2e_large_{kind}", tasks))
    asked = {
        # PostgreSQL's words, after the deploy's sentence, or in Airflow's own trace if it met the
        # fault while it wrote the rights of the DAG.
        "nul": "unsupported Unicode escape sequence",
        "mapped": "many is mapped into 40000 task instances, but the scheduler makes at most 10240",
    }

    def all_said() -> bool:
        errors = airflow.request("GET", "/importErrors?limit=100")["import_errors"]
        said = {each["filename"].rpartition("/")[2]: each["stack_trace"] for each in errors}
        return all(words in said.get(f"e2e_large_{kind}.py", "") for kind, words in asked.items())

    wait_for(all_said, 90 + SLACK, "the web page says so")
    assert properties(shell, "airflow-dag-processor", "NRestarts", "MainPID") == before


# Rows as the code of DAGs can write them in the dag-processor. Each of them ended the scheduler.
DUE = (
    "next_dagrun = now(), next_dagrun_data_interval_start = now(),"
    " next_dagrun_data_interval_end = now(), next_dagrun_create_after = now() - interval '1 minute'"
)
QUEUED = (
    "insert into asset_dag_run_queue select id, '@NAME@', {} from asset where name = '@NAME@'"
    " on conflict do nothing"
)
ROWS = {
    "no list": f"update dag set allowed_run_types = '5', {DUE} where dag_id = '@NAME@'",
    "no time": "update dag set next_dagrun = '20000-01-01', next_dagrun_create_after = '-infinity'"
    " where dag_id = '@NAME@'",
    "no time of an event": QUEUED.format("'20000-01-01'"),
    "no name of an asset": "update serialized_dag set data = jsonb_set(data::jsonb,"
    ' \'{dag,timetable,__var,asset_condition}\', \'{"__type": "asset_ref", "name": 5}\')::json'
    f" where dag_id = '@NAME@'; {QUEUED.format('now()')}",
    "no DAG": 'update serialized_dag set data = \'{"__version": 3, "dag": 5}\''
    f" where dag_id = '@NAME@'; {QUEUED.format('now()')}",
    "no asset": "insert into asset_partition_dag_run (target_dag_id, partition_key, created_at,"
    " updated_at, rollup_fingerprint) values ('airflow_smoke_test', 'x', now(), now(), '{}')",
}


def write_row(shell: Shell, name: str, kind: str, statement: str) -> None:
    """Write a row for a DAG as its code can."""
    row = shlex.quote(statement.replace("@NAME@", name))
    said = shell(f"cd / && runuser -u airflow-dags -- psql -XAtq airflow -c {row} 2>&1")
    assert said == "", f"{kind}: {said}"


def go_on(shell: Shell, kind: str) -> None:
    """Several turns of the scheduler's loop."""
    shell("sleep 5")
    assert properties(shell, "airflow-scheduler", "SubState") == ["running"], kind


def test_rows_that_end_no_scheduler(airflow: Airflow, shell: Shell) -> None:
    name = "e2e_large_rows"
    dag = text(name, 'EmptyOperator(task_id="one")').replace(
        'schedule="@once"', 'schedule=[Asset("e2e_large_rows")]'
    )
    bring_dag(name, shell, dag.replace("import DAG,", "import DAG, Asset,"))
    wait_for(
        lambda: airflow.request("GET", f"/dags?dag_id_pattern={name}")["dags"],
        90 + SLACK,
        "the DAG is there",
    )
    for kind, statement in ROWS.items():
        write_row(shell, name, kind, statement)
        go_on(shell, kind)
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    shell(f"rm /opt/airflow/dags/{name}.py")
    airflow.request("DELETE", f"/dags/{name}")
    shell(
        "cd / && runuser -u airflow -- psql -XAtq airflow -c"
        " \"delete from asset_partition_dag_run where target_dag_id = 'airflow_smoke_test'\""
    )


@pytest.mark.parametrize(("characters", "status"), [(2**18, 400), (2**21, 413)])
def test_a_large_conf_is_refused(characters: int, status: int, airflow: Airflow) -> None:
    body = {"logical_date": None, "conf": {"a": "x" * characters}}
    with pytest.raises(HTTPError) as refused:
        airflow.request("POST", f"/dags/{SMOKE_TEST}/dagRuns", body)
    assert refused.value.code == status
    assert status != 400 or b"characters as JSON" in refused.value.read()


# The same for a DAG with a run that waits, and with a task that waits for its pod.
SHAPES = {
    "no method": """
        update serialized_dag set data = jsonb_set(data::jsonb, '{dag,has_task}', '5')::json
            where dag_id = '@NAME@';
        update dag set has_task_concurrency_limits = true where dag_id = '@NAME@';
        update task_instance set state = 'scheduled' where dag_id = '@NAME@'
    """,
    "no timetable": """
        update serialized_dag set data = jsonb_set(data::jsonb, '{dag,timetable}',
            '{"__type": "airflow.timetables.simple.IdentityMapper", "__var": {}}')::json
            where dag_id = '@NAME@'
    """,
}


@pytest.mark.parametrize("kind", SHAPES)
def test_dags_of_another_shape_end_no_scheduler(kind: str, airflow: Airflow, shell: Shell) -> None:
    name = f"e2e_large_{kind.replace(' ', '_')}"
    dag = text(name, 'BashOperator(task_id="one", bash_command="true")')
    bring_dag(name, shell, dag.replace('schedule="@once"', "schedule=None"))
    wait_for(
        lambda: airflow.request("GET", f"/dags?dag_id_pattern={name}")["dags"],
        90 + SLACK,
        "the DAG is there",
    )
    # The scheduler reads the DAG when it is unpaused.
    airflow.request("PATCH", f"/dags/{name}", {"is_paused": True})
    airflow.request("POST", f"/dags/{name}/dagRuns", {"logical_date": None})
    write_row(shell, name, kind, SHAPES[kind])
    airflow.request("PATCH", f"/dags/{name}", {"is_paused": False})
    go_on(shell, kind)
    said = shell("journalctl -q -o cat -u airflow-scheduler --since=-1min")
    assert f"DAG {name} is left out" in said
    airflow.request("PATCH", f"/dags/{name}", {"is_paused": True})
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    shell(f"rm /opt/airflow/dags/{name}.py")
    airflow.request("DELETE", f"/dags/{name}")


# What Airflow's own code in a pod sends, with other values.
DEFERRING = """
import os

from airflow.sdk import dag, task
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import DeferTask


@dag(schedule=None, catchup=False)
def e2e_large_triggers():
    @task
    def defer(classpath, arguments):
        message = DeferTask(
            classpath=classpath, trigger_kwargs=arguments, next_method="execute", next_kwargs={}
        )
        task_runner.SUPERVISOR_COMMS.send(message)
        os._exit(0)

    # No key reads the text; the class raises another exception than a TypeError.
    defer.override(task_id="text")("decimal.Decimal", "x")
    defer.override(task_id="value")("decimal.Decimal", {"value": "x"})


e2e_large_triggers()
"""


def test_triggers_that_end_no_triggerer(airflow: Airflow, shell: Shell) -> None:
    name = "e2e_large_triggers"
    bring_dag(name, shell, DEFERRING)
    bring_dag("e2e_rights", shell)
    before = properties(shell, "airflow-triggerer", "NRestarts", "InvocationID", "MainPID")
    run = airflow.trigger(name)
    wait_for(lambda: airflow.run_state(name, run) == "failed", 180 + SLACK, "the run fails")
    assert runs.tries(airflow, name, run) == dict.fromkeys(("text", "value"), ("failed", 1))
    run = airflow.trigger("e2e_rights_deferred")
    runs.ends_well(airflow, "e2e_rights_deferred", run)
    after = properties(shell, "airflow-triggerer", "NRestarts", "InvocationID", "MainPID")
    assert after == before
    shell("rm /opt/airflow/dags/e2e_rights.py")


def test_a_far_time_ends_no_scheduler(airflow: Airflow, shell: Shell) -> None:
    """PostgreSQL has the host's time zone, in which it may be the year 10000 already."""
    postgres = "cd / && runuser -u postgres -- psql -XAtq -c '{}' -c 'select pg_reload_conf()'"
    shell(postgres.format('alter system set timezone = "Europe/Berlin"'))
    before = properties(shell, "airflow-scheduler", "NRestarts")
    began = shell("date +%s")
    runs = f"/dags/{SMOKE_TEST}/dagRuns"
    run = airflow.request("POST", runs, {"logical_date": "9999-12-31T23:59:59+00:00"})["dag_run_id"]
    try:
        # Airflow reads it in each turn of its loop, and starts no run of the future.
        journal = f"journalctl -u airflow-scheduler -S @{began} -o cat"
        read = f"{journal} | grep -c 'in future: 9999-12-31 23:59:59' || true"
        wait_for(lambda: int(shell(read)) > 1, 30 + SLACK, "the scheduler reads it")
        assert properties(shell, "airflow-scheduler", "NRestarts") == before
        assert "a task ran as a pod" in shell("airflow-smoke-test")
    finally:
        airflow.request("PATCH", f"{runs}/{quote(run)}", {"state": "failed"})
        airflow.request("DELETE", f"{runs}/{quote(run)}")
        shell(postgres.format("alter system reset timezone"))
