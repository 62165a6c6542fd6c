"""A real Airflow 2 beside the deploy's own moves in, by the commands of inventories/YEARS.md."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from secrets import token_hex

import pytest

from tasks import layout
from tasks.layout import ROOT
from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, bring_dag, deploy
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.unit.markdown import commands

DUMP, TAKE = commands(ROOT / "inventories/YEARS.md", "## An Airflow 2 of your own")
LOCK, LOCK_THERE = Path(__file__).with_name("airflow2.txt"), "/root/e2e-airflow2.txt"
SECRET, PASSWORD = token_hex(16), token_hex(16)  # no hyphen, which begins an option
DAG = """
import datetime

from {module} import dag, task


@dag(schedule=None, start_date=datetime.datetime(2024, 1, 1))
def e2e_migration():
    @task
    def say():
        print("said")

    say()


e2e_migration()
"""
DATABASE = "postgresql+psycopg2:///airflow?host=/run/postgresql&port="
# The old Airflow: a virtual environment, and a PostgreSQL cluster beside the deploy's own.
MAKE = f"""
set -e
. /usr/local/lib/airflow/lib.sh
mkdir -p /srv/two/home /srv/two/dags /srv/two/bin
uv venv --quiet --python /usr/bin/python3 /srv/two/venv
uv pip install --quiet --python /srv/two/venv/bin/python --require-hashes -r {LOCK_THERE}
/srv/two/venv/bin/python -c \\
    'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())' > /srv/two/key
cat > /srv/two/dags/e2e_migration.py
version=${{PGCLUSTER%/*}}
pg_createcluster --start $version two >/dev/null
port=$(pg_lsclusters --no-header | awk '$2 == "two" {{print $3}}')
cat > /srv/two/bin/airflow <<END
#!/bin/sh
cd /srv/two/home
exec runuser -u postgres -- env AIRFLOW_HOME=/srv/two/home AIRFLOW__CORE__LOAD_EXAMPLES=False \\\\
    AIRFLOW__CORE__DAGS_FOLDER=/srv/two/dags AIRFLOW__CORE__FERNET_KEY=$(cat /srv/two/key) \\\\
    'AIRFLOW__DATABASE__SQL_ALCHEMY_CONN={DATABASE}'$port \\\\
    /srv/two/venv/bin/airflow "\\$@" 2>/dev/null
END
chmod 755 /srv/two/bin/airflow
chown -R postgres /srv/two
cd /
runuser -u postgres -- env PGCLUSTER=$version/two createdb airflow
"""
# A person there, where `airflow` is the old one.
THERE = "export PATH=/srv/two/bin:$PATH PGCLUSTER=$(ls /usr/lib/postgresql)/two; cd /; set -e\n"


@pytest.fixture(scope="module")
def run_of_two(machine: Machine, shell: Shell) -> str:
    """The id of a run in an Airflow 2 that has a connection, a variable, a pool and a user."""
    text = DAG.format(module="airflow.decorators").encode()
    machines.run(machine, f"cat > {LOCK_THERE}", stdin=LOCK.read_bytes())
    machines.run(machine, f"sh -c {shlex.quote(MAKE)}", stdin=text)
    shell(
        f"{THERE}airflow db migrate >/dev/null\n"
        f"airflow connections add e2e_two --conn-type http --conn-password {SECRET} >/dev/null\n"
        "airflow variables set e2e_two two >/dev/null; airflow pools set e2e_two 2 old >/dev/null\n"
        f"airflow users create --username ada --password {PASSWORD} --role Admin --firstname A"
        " --lastname L --email ada@example.com >/dev/null\n"
        "airflow dags reserialize >/dev/null; airflow dags test e2e_migration >/dev/null"
    )
    assert f"apache-airflow=={shell(f'{THERE}airflow version')} " in LOCK.read_text()
    return shell(
        f"{THERE}runuser -u postgres -- psql -XAtqd airflow -c 'select run_id from dag_run'"
    )


@pytest.fixture(scope="module")
def ada(machine: Machine) -> Airflow:
    """The REST API, for the user of the old Airflow."""
    authority = machines.run(machine, f"cat {layout.AUTHORITY}").stdout
    return Airflow(f"https://{machine.address}", "ada", lambda: PASSWORD, lambda: authority)


def test_it_is_dumped_and_taken_over(run_of_two: str, shell: Shell) -> None:
    shell(THERE + DUMP)
    said = shell(f"set -e\n{TAKE}")
    assert "Airflow 2's data is as it was" in said
    (connection,) = json.loads(shell("airflow connections get e2e_two -o json"))
    assert connection["password"] == SECRET
    assert shell("airflow variables get e2e_two") == "two"
    assert "e2e_two" in shell("airflow pools list -o plain")
    assert shell("ls /root/airflow2.key 2>/dev/null || true") == ""


def test_the_deploy_goes_on_with_it(run_of_two: str, shell: Shell) -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    again = deploy()
    assert again.code == 0 and again.changed == [], again.output


def test_its_user_sees_the_history_and_starts_the_next_run(
    run_of_two: str, ada: Airflow, shell: Shell
) -> None:
    bring_dag("e2e_migration", shell, DAG.format(module="airflow.sdk"))
    next_run = ada.trigger("e2e_migration")
    runs.ends_well(ada, "e2e_migration", next_run)
    found = ada.request("GET", "/dags/e2e_migration/dagRuns")["dag_runs"]
    assert {each["dag_run_id"]: each["state"] for each in found} == {
        run_of_two: "success",
        next_run: "success",
    }
    (task,) = ada.tasks("e2e_migration", run_of_two)
    assert (task["task_id"], task["state"]) == ("say", "success")


def test_it_survives_a_rotation_of_its_key(run_of_two: str, shell: Shell) -> None:
    shell("airflow-rotate fernet-key")
    (connection,) = json.loads(shell("airflow connections get e2e_two -o json"))
    assert connection["password"] == SECRET
