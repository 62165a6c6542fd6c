"""The daily timers delete everything that is too old, here made so, and nothing younger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.data import PSQL
from tests.e2e.support import Airflow, Browser, bring_dag, deploy
from tests.support import wait_for

CLAIM = "/tmp/hostpath-provisioner/airflow/logs"
LOG_FOLDERS = ("/var/log/airflow", CLAIM)
SETTINGS: dict[str, object] = {
    "logs_store": "volume_claim",
    "logs_claim": {"name": "logs", "host_path": CLAIM, "size": "1Gi"},
    "retention_backups": 2,
    "retention_history_days": 40,
    "retention_log_days": 20,
}
# Timers of once a day.
DAILY = [
    f"airflow-{name}"
    for name in ("backup", "certificate", "cleanup-history", "cleanup-images", "cleanup-logs")
]
BY_HAND, SCHEDULED = "e2e_by_hand", "e2e_scheduled"
BETWEEN, UNENDED = "e2e_between_tasks", "e2e_unended_task"
BACKUPS = "/var/backups/airflow"


@pytest.fixture(scope="module", autouse=True)
def deployed(airflow: Airflow, shell: Shell) -> None:
    """Airflow with these settings, whose logs are in the claim; an older one is on the host."""
    bring_dag("e2e_retention", shell)
    run = deploy(settings=SETTINGS)
    assert run.code == 0, run.output


# Logs


@dataclass(frozen=True)
class File:
    """A file or an empty folder of logs."""

    name: str
    days: float  # since it was written to
    stays: bool


FILES = (
    File("dag_id=e2e/run_id=old/attempt=1.log", 20.1, stays=False),
    File("dag_id=e2e/run_id=young/attempt=1.log", 19.9, stays=True),
    File("dag_id=e2e/run_id=old/notes.txt", 20.1, stays=True),
    File("dag_id=e2e/empty", 1.1, stays=False),
    File("dag_id=e2e/just-made", 0, stays=True),
)
TASK_LOGS = "dag_id=airflow_smoke_test"


@pytest.fixture(scope="module")
def logs(shell: Shell) -> None:
    """The files above, as their owner writes them, and the logs of tasks that ran, made old."""
    for folder in LOG_FOLDERS:
        made = []
        for file in FILES:
            path = f"{folder}/{file.name}"
            make = "touch" if "." in file.name else "mkdir"
            age = f"touch -d @$(($(date +%s) - {file.days * 86400:.0f})) {path}"
            made.append(f"mkdir -p $(dirname {path}) && {make} {path} && {age}")
        shell(f"runuser -u airflow-dags -- sh -ec '{' && '.join(made)}'")
        of_tasks = f"find {folder}/{TASK_LOGS} -name '*.log'"
        assert shell(of_tasks), "no task has written here"
        shell(f"{of_tasks} -exec touch -d '21 days ago' {{}} +")


# History


@dataclass(frozen=True)
class History:
    """Runs that were made old."""

    kept: dict[str, set[str]]  # ids by DAG
    gone: set[str]


@pytest.fixture(scope="module")
def history(airflow: Airflow, shell: Shell) -> History:
    """Runs of 41 days ago, and one of 39."""

    def ended(dag: str) -> str:
        run = airflow.trigger(dag)
        wait_for(lambda: airflow.run_state(dag, run) == "success", 60, f"the run of {dag} ends")
        return run

    def scheduled() -> list[str]:
        runs = airflow.request("GET", f"/dags/{SCHEDULED}/dagRuns?order_by=logical_date")
        states = {run["state"] for run in runs["dag_runs"]}
        ids = [str(run["dag_run_id"]) for run in runs["dag_runs"]]
        return ids if states == {"success"} and len(ids) == 3 else []

    old, young = ended(BY_HAND), ended(BY_HAND)
    path = f"/dags/{BY_HAND}/dagRuns/{quote(old)}/taskInstances/nothing/xcomEntries"
    airflow.request("POST", path, {"key": "found", "value": "something"})
    unended = ended(UNENDED)
    waiting, done = airflow.trigger(BETWEEN), airflow.trigger(BETWEEN)

    def waits() -> bool:
        tasks = airflow.tasks(BETWEEN, waiting) + airflow.tasks(BETWEEN, done)
        states = sorted((task["task_id"], str(task["state"])) for task in tasks)
        return states == [("nothing", "success")] * 2 + [("waits", "scheduled")] * 2

    wait_for(waits, 60, "the runs are between their tasks")
    airflow.request("PATCH", f"/dags/{BETWEEN}/dagRuns/{quote(done)}", {"state": "success"})
    airflow.request("PATCH", f"/dags/{SCHEDULED}", {"is_paused": False})
    first, second, last = wait_for(scheduled, 90, "all is done that was scheduled")

    history = History(
        kept={
            BY_HAND: {young},
            SCHEDULED: {last},
            BETWEEN: {waiting, done},
            UNENDED: {unended},
        },
        gone={old, first, second},
    )
    # Each begins a minute after the one before, as they did.
    for number, run in enumerate([first, second, last, old, waiting, done, unended]):
        _age(shell, run, f"interval '41 days' - interval '{number} min'")
    _age(shell, young, "interval '39 days'")
    shell(f"{PSQL} \"update task_instance set state = 'deferred' where run_id = '{unended}'\"")
    return history


def _age(shell: Shell, run: str, age: str) -> None:
    """Let a run and its tasks be of long ago; what has not begun stays so."""
    for table in ("dag_run", "task_instance"):
        shell(
            f'{PSQL} "update {table} set start_date = start_date - ({age}),'
            f" end_date = end_date - ({age}) where run_id = '{run}'\""
        )


@pytest.fixture(scope="module")
def audit(airflow: Airflow, shell: Shell, history: History) -> None:
    """A session and entries of the audit log of long ago; and the DAGs were not read since."""
    Browser(airflow, shell("cat /etc/airflow/secrets/admin-password"))
    # Otherwise the dag-processor would read them meanwhile.
    shell("systemctl stop airflow-dag-processor")
    old = "now() - interval '41 days'"
    shell(
        f'{PSQL} "update session set expiry = {old};'
        f" update log set dttm = {old} where dag_id = '{BY_HAND}';"
        f" update dag set last_parsed_time = {old} where dag_id like 'e2e_%'\""
    )
    assert 0 not in _old_entries(shell)


def _old_entries(shell: Shell) -> list[int]:
    """How many old ones there are of the audit log and of sessions."""
    old = "now() - interval '40 days'"
    counted = (f"log where dag_id = '{BY_HAND}' and dttm < {old}", f"session where expiry < {old}")
    return [int(shell(f'{PSQL} "select count(*) from {each}"')) for each in counted]


@pytest.fixture(scope="module")
def backups(shell: Shell) -> list[str]:
    """Two backups of the night and one made by hand, the oldest first."""
    return [
        _backup(shell, command)
        for command in ("airflow-backup", "airflow-backup mine", "airflow-backup")
    ]


def _backup(shell: Shell, command: str) -> str:
    """Make one; its name, once the clock has gone on: names and ages are of seconds."""
    second = shell("date +%s")
    name = shell(command).removeprefix(f"{BACKUPS}/")
    wait_for(lambda: shell("date +%s") > second, 5, "the clock goes on")
    return name


@pytest.fixture(scope="module")
def missed(shell: Shell, logs: None, history: History, audit: None, backups: list[str]) -> None:
    """The host was off at the time of each timer, and is on again: all of them are made up for."""
    timers = [f"{unit}.timer" for unit in DAILY]
    units = [f"{unit}.service" for unit in DAILY]

    def shown(name: str, of: list[str]) -> list[str]:
        said = shell(f"systemctl show --value --property={name} {' '.join(of)}")
        return [line for line in said.splitlines() if line]

    def began() -> list[int]:
        return [int(time) for time in shown("ExecMainStartTimestampMonotonic", units)]

    before, restart = began(), f"systemctl restart {' '.join(timers)}"
    # Nothing was missed yet.
    shell(restart)
    assert all(
        datetime.strptime(time, "%a %Y-%m-%d %H:%M:%S UTC") > datetime.now(UTC).replace(tzinfo=None)
        for time in shown("NextElapseUSecRealtime", timers)
    )
    assert began() == before
    stamps = " ".join(f"/var/lib/systemd/timers/stamp-{timer}" for timer in timers)
    shell(f"touch --no-create -d '2 days ago' {stamps}; {restart}")

    def done() -> bool:
        late = [now > then for now, then in zip(began(), before, strict=True)]
        return all(late) and {*shown("ActiveState", units)} <= {"inactive", "failed"}

    wait_for(done, 180, "all have run that were missed", every=1)
    assert shown("Result", units) == ["success"] * len(units)


def test_old_logs_go(missed: None, shell: Shell) -> None:
    for folder in LOG_FOLDERS:
        found = shell(f"cd {folder}/dag_id=e2e; find . -type f -o -type d -empty").splitlines()
        stays = {f"./{file.name.partition('/')[2]}" for file in FILES if file.stays}
        if folder != CLAIM:
            # In a claim it may be of others. The folder that it leaves empty goes a day later.
            stays = stays - {"./run_id=old/notes.txt"} | {"./run_id=old"}
        assert {*found} == stays, folder
        # The folders that this left empty go a day later.
        assert shell(f"find {folder}/{TASK_LOGS} -name '*.log'") == "", folder
        assert shell(f"find {folder}/{TASK_LOGS} -type d -empty") != "", folder


def test_old_runs_go(missed: None, history: History, airflow: Airflow, shell: Shell) -> None:
    scheduled = history.kept[SCHEDULED]
    for dag, kept in history.kept.items():
        runs = airflow.request("GET", f"/dags/{dag}/dagRuns")["dag_runs"]
        assert {run["dag_run_id"] for run in runs} == kept, dag
        # Airflow keeps the last scheduled run for its date alone.
        assert {run for run in kept if airflow.tasks(dag, run)} == kept - scheduled, dag
        assert airflow.request("GET", f"/dags/{dag}")["is_paused"] is False
    # The tasks and XComs of the others went with them.
    ids = ", ".join(f"'{run}'" for run in history.gone)
    for table in ("task_instance", "xcom"):
        assert shell(f'{PSQL} "select count(*) from {table} where run_id in ({ids})"') == "0"
    assert _old_entries(shell) == [0, 0]


def test_old_backups_go(missed: None, backups: list[str], shell: Shell) -> None:
    first, mine, second = backups

    def kept(which: str = "") -> set[str]:
        return {*shell(f"cd {BACKUPS} && ls | grep '^{which}'").splitlines()}

    (third,) = kept("airflow-") - {first, second}  # the timer's
    # The two youngest of the night; the other one is not counted.
    assert kept() == {second, third, mine}
    # Of the kinds that are made before a change the three youngest, by the times in their names.
    kinds = [
        f"{kind}-20260101T00000{second}Z"
        for second, kind in enumerate(("upgrade", "restore", "rollback", "restore", "upgrade"))
    ]
    before = [_backup(shell, f"airflow-backup before-{kind}") for kind in kinds]
    assert kept("before") == {*before[-3:]}
    fourth = _backup(shell, "airflow-backup")
    assert kept() == {third, fourth, mine, *before[-3:]}
