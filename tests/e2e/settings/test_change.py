"""A setting changes: only the units that read it restart, once; a running task continues."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, dag
from tests.e2e.support import Airflow, bring_dag, deploy

DAG = "e2e_change"
ALL = {"api-server", "scheduler", "dag-processor", "triggerer"}
OWN = re.compile(
    r"(?:airflow-)?(api-server|scheduler|dag-processor|triggerer|postgresql|nginx|containerd"
    r"|kubelet|minikube)(?:@.*)?\.service"
)
# "Unit has finished starting": https://www.freedesktop.org/software/systemd/man/sd-messages.html
STARTED = "39f53479d3a045ac8e11786248231fbf"

# These of Airflow end if they ask PostgreSQL while it restarts. systemd starts them again.
LOSE_IT = {"scheduler", "dag-processor", "triggerer"}

SMOKE_TEST = "Smoke test | Run a tiny DAG as a pod (about 10 s)"


class Change(NamedTuple):
    """The settings to add, the services that restart for them, and whether the smoke test runs."""

    settings: dict[str, object]
    restarted: set[str]
    proved: bool


# One after the other.
CHANGES = {
    "option": Change({"airflow_config": {"core": {"parallelism": "8"}}}, ALL, proved=True),
    "rights, nginx and the database": Change(
        {
            "kubernetes_pod_operator": False,
            "web_logins_per_minute": 20,
            "airflow_pools": {"narrow": {"slots": 2}},
        },
        {"triggerer"},
        proved=True,
    ),
    # Of which the smoke test depends on the variables of DAGs alone.
    "PostgreSQL, DAGs and timers": Change(
        {
            "postgres_config": {"work_mem": "16MB"},
            "dags_env": {"COLOUR": "green"},
            "retention_log_days": 30,
        },
        {"dag-processor", "triggerer"},
        proved=True,
    ),
    "PostgreSQL as it starts": Change(
        {"postgres_config": {"work_mem": "16MB", "max_connections": "120"}},
        {"postgresql"},
        proved=False,
    ),
}


@pytest.fixture(scope="module")
def under_way(airflow: Airflow, shell: Shell) -> Callable[[], list[tuple[str, int]]]:
    """A task runs meanwhile; the function ends it and returns its run's states and tries."""
    bring_dag(DAG, shell, dag(DAG, "one"))
    runs = Runs(airflow)
    runs.hold(DAG)
    run = runs.begin(DAG, "one")

    def ended() -> list[tuple[str, int]]:
        runs.release(DAG)
        runs.end(DAG, run, "one")
        return [(task["state"], task["try_number"]) for task in airflow.tasks(DAG, run)]

    return ended


def deployed(shell: Shell, settings: dict[str, object]) -> tuple[list[str], bool]:
    """Deploy with these settings; returns what started, in order, and if the smoke test ran."""
    # After a cursor, Debian 12's journalctl leaves out the first of those that match.
    since = shell("date +@%s.%6N")
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    assert run.changed
    lines = shell(f"journalctl -q -o json --since={since} MESSAGE_ID={STARTED}")
    found = [OWN.fullmatch(json.loads(line)["UNIT"]) for line in lines.splitlines()]
    return [each[1] for each in found if each], SMOKE_TEST in run.changed


def assert_only(started: list[str], wanted: set[str], what: str) -> None:
    """These started, each once, and none beside them but LOSE_IT for PostgreSQL."""
    assert wanted <= set(started), what
    more = Counter(started) - Counter(wanted)
    assert more.keys() <= (LOSE_IT if "postgresql" in wanted else set()), what


def test_only_the_readers_of_a_setting_start_again(
    under_way: Callable[[], list[tuple[str, int]]], shell: Shell
) -> None:
    settings: dict[str, object] = {}
    for what, change in CHANGES.items():
        settings |= change.settings
        started, proved = deployed(shell, settings)
        assert_only(started, change.restarted, what)
        assert proved == change.proved, what
        # The others ask it.
        assert "api-server" not in started or started[0] == "api-server", what
    assert deploy(settings=settings).changed == []
    assert shell("runuser -u postgres -- psql -XAtqc 'show work_mem'") == "16MB"
    started, proved = deployed(shell, {})
    assert_only(started, {*ALL, "postgresql"}, "back to the defaults")
    assert proved
    assert deploy().changed == []
    assert under_way() == [("success", 1)] * 2
