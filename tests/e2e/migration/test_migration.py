"""A real Airflow 2 of the same host moves in, by the commands of inventories/YEARS.md."""

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
from tests.e2e.support import UV, Airflow, bring_dag, bring_uv, deploy
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.unit.markdown import commands

DUMP, MOVE, TAKE = commands(ROOT / "inventories/YEARS.md", "## An Airflow 2 of your own")
LOCK, LOCK_THERE = Path(__file__).with_name("airflow2.txt"), "/srv/airflow2.txt"
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
# The old Airflow has the names and places that people give it, and a database in Debian's cluster.
MAKE = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends postgresql python3-venv >/dev/null 2>&1
useradd --system airflow
mkdir -p /opt/airflow/dags
{UV} venv --quiet --python /usr/bin/python3 /opt/airflow/venv
SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt {UV} pip install --quiet \\
    --python /opt/airflow/venv/bin/python --require-hashes -r {LOCK_THERE}
cat > /opt/airflow/dags/e2e_migration.py
key=$(/opt/airflow/venv/bin/python -c \\
    'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())')
cat > /opt/airflow/airflow.cfg <<END
[core]
load_examples = False
dags_folder = /opt/airflow/dags
fernet_key = $key
executor = LocalExecutor
[database]
sql_alchemy_conn = postgresql+psycopg2:///airflow?host=/run/postgresql
END
cat > /usr/local/bin/airflow <<'END'
#!/bin/sh
cd /opt/airflow
exec runuser -u airflow -- env AIRFLOW_HOME=/opt/airflow /opt/airflow/venv/bin/airflow "$@" \\
    2>/dev/null
END
chmod 755 /usr/local/bin/airflow
for name in scheduler webserver; do
    cat > /etc/systemd/system/airflow-$name.service <<END
[Service]
User=airflow
Environment=AIRFLOW_HOME=/opt/airflow
ExecStart=/opt/airflow/venv/bin/airflow $name
[Install]
WantedBy=multi-user.target
END
done
chown -R airflow /opt/airflow
cd /
runuser -u postgres -- createuser airflow
runuser -u postgres -- createdb --owner airflow airflow
"""


@pytest.fixture(scope="module")
def run_of_two(machine: Machine, shell: Shell) -> str:
    """The id of a run in an Airflow 2 that has a connection, a variable, a pool and a user."""
    text = DAG.format(module="airflow.decorators").encode()
    machines.run(machine, f"cat > {LOCK_THERE}", stdin=LOCK.read_bytes())
    bring_uv(machine)
    machines.run(machine, f"sh -c {shlex.quote(MAKE)}", stdin=text)
    shell(
        "set -e; cd /\nairflow db migrate >/dev/null\n"
        f"airflow connections add e2e_two --conn-type http --conn-password {SECRET} >/dev/null\n"
        "airflow variables set e2e_two two >/dev/null; airflow pools set e2e_two 2 old >/dev/null\n"
        f"airflow users create --username ada --password {PASSWORD} --role Admin --firstname A"
        " --lastname L --email ada@example.com >/dev/null\n"
        "airflow dags reserialize >/dev/null; airflow dags test e2e_migration >/dev/null\n"
        "systemctl enable --quiet --now airflow-scheduler airflow-webserver"
    )
    assert f"apache-airflow=={shell('airflow version')} " in LOCK.read_text()
    return shell("runuser -u airflow -- psql -XAtqd airflow -c 'select run_id from dag_run'")


@pytest.fixture(scope="module")
def ada(machine: Machine) -> Airflow:
    """The REST API, for the user of the old Airflow."""
    authority = machines.run(machine, f"cat {layout.AUTHORITY}").stdout
    return Airflow(f"https://{machine.address}", "ada", lambda: PASSWORD, lambda: authority)


def test_the_deploy_names_all_that_stands_in_its_way(run_of_two: str) -> None:
    run = deploy()
    assert run.code != 0 and "nothing was changed" in run.output
    for words in (
        "airflow-scheduler.service is a unit that this deploy did not make",
        "airflow-webserver.service is a unit that this deploy did not make",
        "this deploy did not make /opt/airflow",
        "this deploy did not make /usr/local/bin/airflow",
        "there is a user airflow that this deploy did not make",
        "main has the database airflow, which this deploy did not make",
        "main has the role airflow, which this deploy did not make",
    ):
        assert words in run.output, run.output


def test_it_is_dumped_and_moved_away(run_of_two: str, shell: Shell) -> None:
    shell(f"set -e; cd /\n{DUMP}")
    shell(f"set -e; cd /\n{MOVE}")
    run = deploy()
    assert run.code == 0, run.output
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed


def test_it_is_taken_over(run_of_two: str, shell: Shell) -> None:
    said = shell(f"set -e; cd /\n{TAKE}")
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
