"""The deploy's questions to Airflow's database, in a real PostgreSQL with tables like it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit import fake, postgres, programs
from tests.unit.fake import FILES

# https://airflow.apache.org/docs/apache-airflow/3.3.2/_api/airflow/utils/state/index.html
RUN_ENDED = {"success", "failed"}
RUN_GOES_ON = {"queued", "running"}
TASK_ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}
TASK_GOES_ON = {
    *("scheduled", "queued", "running", "restarting"),
    *("up_for_retry", "up_for_reschedule", "deferred", "awaiting_input"),
}

# The columns that are asked for.
TABLES = """
create table dag_run (
    dag_id text, run_id text, state text, start_date timestamptz, end_date timestamptz
);
create table task_instance (
    dag_id text, state text, start_date timestamptz, queued_dttm timestamptz,
    pool text, pool_slots int
);
create table job (job_type text, latest_heartbeat timestamptz);
create table import_error (id int);
create table slot_pool (pool text, slots int, include_deferred boolean);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """One for all tests of this file."""
    with postgres.server() as running:
        running.sql('create role airflow; create role "airflow-dags"; create role prometheus')
        running.sql("create database airflow owner airflow")
        running.sql(f"set role airflow; {TABLES}", "airflow")
        # As certificates.py makes it.
        running.sql(
            "set role airflow; create schema deploy; create table deploy.certificate"
            " (name text primary key, not_after timestamptz not null);"
            " grant usage on schema deploy to prometheus;"
            " grant select on deploy.certificate to prometheus;"
            # As disks.sh makes it.
            " create table deploy.disk (free_bytes bigint, size_bytes bigint, free_files bigint,"
            " files bigint, folder text primary key, at timestamptz not null default now());"
            " grant select on deploy.disk to prometheus",
            "airflow",
        )
        grants = (FILES / "usr/local/lib/airflow/grants.sql").read_text()
        running.sql(f"set role airflow;\n{grants}\\gexec", "airflow")
        assert "prometheus" not in running.sql(f"set role airflow;\n{grants};", "airflow")
        yield running


@pytest.fixture
def database(server: postgres.Server) -> postgres.Server:
    """One with empty tables."""
    tables = ", ".join(re.findall("create table (\\w+)", TABLES))
    server.sql(f"truncate {tables}", "airflow")
    return server


def clean_history(server: postgres.Server, folder: Path, days: int) -> dict[str, str]:
    """Run the program; returns for each of its calls of Airflow which tables it cleans, and of
    which DAGs not."""
    airflow = folder / "airflow"
    airflow.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {folder}/calls\n')
    airflow.chmod(0o755)
    # The program drops a caller's variables of PostgreSQL.
    psql, environment = folder / "psql", server.environment
    given = " ".join(f"{name}={value}" for name, value in environment.items())
    psql.write_text(f'#!/bin/sh\nexec env {given} psql "$@"\n')
    psql.chmod(0o755)
    (folder / "setpriv").write_text('#!/bin/sh\nshift 3\nexec "$@"\n')
    (folder / "setpriv").chmod(0o755)
    (folder / "host.env").write_text(
        f"HISTORY_DAYS={days}\nHOMES={folder}\nOWNER_CONNECTION=PGDATABASE=airflow\n"
    )
    subprocess.run(
        [FILES / "usr/local/lib/airflow/clean-history.sh"],
        env={
            "PATH": f"{folder}:{environment['PATH']}",
            "AIRFLOW_HOST_ENV": str(folder / "host.env"),
        },
        check=True,
    )
    calls = (folder / "calls").read_text().splitlines()
    return {
        re.findall(r"--tables (\S+)", call)[0]: "".join(
            re.findall(r"--exclude-dag-ids=(\S+)", call)
        )
        for call in calls
    }


def test_history_of_a_dag_stays_while_anything_of_it_goes_on(
    database: postgres.Server, tmp_path: Path
) -> None:
    def runs(states: set[str], days: int) -> str:
        return "".join(
            f"insert into dag_run values ('run-{state}-{days}', 'r', '{state}',"
            f" now() - interval '{days} days', null);\n"
            for state in states
        )

    def tasks(states: set[str], days: int) -> str:
        return "".join(
            f"insert into task_instance values ('task-{state}-{days}', '{state}',"
            f" now() - interval '{days} days', null, 'default_pool', 1);\n"
            for state in states
        )

    # Some began before the day from which on all is kept, some after it.
    for days in (11, 9):
        database.sql(runs(RUN_ENDED | RUN_GOES_ON, days), "airflow")
        database.sql(tasks(TASK_ENDED | TASK_GOES_ON, days), "airflow")
    kept = {f"run-{state}-11" for state in RUN_GOES_ON}
    kept |= {f"task-{state}-11" for state in TASK_GOES_ON}
    others, of_runs = clean_history(database, tmp_path, days=10).items()
    assert "dag_run" in of_runs[0].split(",") and set(of_runs[1].split(",")) == kept
    assert "dag_run" not in others[0].split(",") and others[1] == ""


def test_history_is_deleted_of_all_where_nothing_goes_on(
    database: postgres.Server, tmp_path: Path
) -> None:
    database.sql("insert into dag_run values ('a', 'r', 'success', '2020-01-01', null)", "airflow")
    assert set(clean_history(database, tmp_path, days=10).values()) == {""}


# Figures for Prometheus


def figures(server: postgres.Server) -> dict[str, Any]:
    """The exporter's answer: a number by the figure and its label."""
    queries = yaml.safe_load((FILES / "usr/local/lib/airflow/metrics.yaml").read_text())
    found: dict[str, Any] = {}
    for query, each in queries.items():
        usages = {
            name: about["usage"] for metric in each["metrics"] for name, about in metric.items()
        }
        asked = f"set role prometheus; select json_agg(q) from ({each['query']}) q"
        rows = server.sql(asked, "airflow")
        for row in json.loads(rows or "null") or []:
            assert row.keys() == usages.keys(), f"{query} has other columns than it names"
            label = ",".join(str(row[name]) for name, usage in usages.items() if usage == "LABEL")
            for name, usage in usages.items():
                if usage == "GAUGE":
                    found[f"{query}_{name}{{{label}}}" if label else f"{query}_{name}"] = row[name]
    return found


def test_figures_are_right(database: postgres.Server) -> None:
    rows = ""
    # As many tasks as the place of their state in the list, so that none is taken for another.
    states = sorted(TASK_GOES_ON | TASK_ENDED)
    for number, state in enumerate(states, start=1):
        rows += (
            f"insert into task_instance select 'd', '{state}', now(), now() - interval"
            f" '{number} minutes', 'narrow', 2 from generate_series(1, {number});\n"
        )
    for number, state in enumerate(sorted(RUN_GOES_ON | RUN_ENDED), start=1):
        for minutes, many in ((59, number), (61, 10 * number)):  # ended within the hour, or before
            rows += (
                f"insert into dag_run select 'd', 'r', '{state}', now(), now() - interval"
                f" '{minutes} minutes' from generate_series(1, {many});\n"
            )
    rows += """
insert into job values ('SchedulerJob', now() - interval '40 seconds');
insert into job values ('SchedulerJob', now() - interval '1 day');
insert into job values ('TriggererJob', now() - interval '50 seconds');
insert into job values ('DagProcessorJob', now() - interval '60 seconds');
insert into job values ('LocalTaskJob', now() - interval '90 seconds');
insert into import_error values (1), (2), (3);
insert into slot_pool values ('narrow', 128, false), ('default_pool', 7, true);
insert into task_instance values ('d', 'deferred', now(), null, 'default_pool', 3);
"""
    database.sql(rows, "airflow")
    found = figures(database)
    ages = {
        name: found.pop(name)
        for name in [name for name in found if name.startswith("airflow_heartbeat")]
    }
    components = {"scheduler": 40, "triggerer": 50, "dag_processor": 60}
    assert ages.keys() == {
        f"airflow_heartbeat_age_seconds{{{component}}}" for component in components
    }
    for component, age in components.items():
        assert age <= ages[f"airflow_heartbeat_age_seconds{{{component}}}"] < age + 30
    place = {state: number for number, state in enumerate(states, start=1)}
    waits = found.pop("airflow_oldest_queued_task_seconds")
    assert 60 * place["queued"] <= waits < 60 * place["queued"] + 30
    runs = {state: number for number, state in enumerate(sorted(RUN_GOES_ON | RUN_ENDED), start=1)}
    assert found == {
        **{f"airflow_task_instances{{{state}}}": place[state] for state in TASK_GOES_ON},
        "airflow_task_instances{deferred}": place["deferred"] + 1,
        **{f"airflow_dag_runs{{{state}}}": 11 * runs[state] for state in RUN_GOES_ON},
        **{f"airflow_dag_runs_ended_last_hour{{{state}}}": runs[state] for state in RUN_ENDED},
        "airflow_import_errors": 3,
        "airflow_pool_slots{narrow}": 128,
        "airflow_pool_used{narrow}": 2 * (place["queued"] + place["running"]),
        "airflow_pool_slots{default_pool}": 7,
        # This one counts deferred tasks, the other one does not.
        "airflow_pool_used{default_pool}": 3,
    }


def test_figures_of_an_idle_airflow_are_zero_and_not_missing(database: postgres.Server) -> None:
    found = figures(database)
    assert set(found.values()) == {0}
    assert {"airflow_task_instances{queued}", "airflow_oldest_queued_task_seconds"} <= found.keys()


# Schema


def test_a_schema_is_known_by_its_heads(server: postgres.Server, plan: fake.Plan) -> None:
    server.sql("create database heads")
    server.sql(
        "create table alembic_version as select 'abc' as version_num;"
        "create table alembic_version_fab as select 'def' as version_num",
        "heads",
    )
    (command,) = plan.named("Migrate the database's schema").commands
    *_, key = command.split()
    assert key == fake.settings().venv_key
    text = (programs.LIB / "migrate.sh").read_text()
    (query,) = re.findall(r'ask-owner.sh" -c \\\n +"(select [^"]*)"', text)
    assert server.sql(query.replace("$1", key), "heads") == f"{key} abc def"
