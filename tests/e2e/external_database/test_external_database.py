"""An existing PostgreSQL: refused, deployed, away, failed over, backed up, and left as it is."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasks.layout import ROOT, TEMPORARY
from tests.e2e.conftest import Shell
from tests.e2e.data import SECRET as KEPT_SECRET
from tests.e2e.data import connection, decrypted
from tests.e2e.examples import example
from tests.e2e.runs import recovers
from tests.e2e.support import (
    REMOVAL,
    SLACK,
    Airflow,
    Deploy,
    bring_dag,
    deploy,
    host_tests,
    inventory_with,
    killed_by_liveness,
    log_in,
)
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

SMOKE_TEST = "airflow_smoke_test"
PASSWORDS = {"airflow": secrets.token_urlsafe(16), "airflow-dags": secrets.token_urlsafe(16)}
OWNER = "/usr/local/lib/airflow/owner.sh psql -XAtqc"
# A primary and a standby of it, which speak TLS with a certificate of an authority of their own.
SERVERS = """
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends postgresql openssl >/dev/null 2>&1
version=$(ls /etc/postgresql)
mkdir -p /srv/tls && cd /srv/tls
new="openssl req -newkey rsa:2048 -nodes"
$new -x509 -days 30 -subj /CN=e2e -keyout ca.key -out ca.pem 2>/dev/null
$new -subj /CN=database -keyout server.key -out server.csr 2>/dev/null
echo subjectAltName=IP:{address} >names
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names \\
    -out server.pem 2>/dev/null
chown postgres server.key && chmod 600 server.key
tell() {{
    printf "listen_addresses = '*'\\nssl = on\\nssl_cert_file = '/srv/tls/server.pem'\\n"
    printf "ssl_key_file = '/srv/tls/server.key'\\n"
}}
pg_createcluster --port 5433 $version standby >/dev/null
for each in main standby; do
    tell >/etc/postgresql/$version/$each/conf.d/e2e.conf
    echo 'hostssl all airflow,airflow-dags all scram-sha-256' \\
        >>/etc/postgresql/$version/$each/pg_hba.conf
done
systemctl restart postgresql@$version-main
rm -rf /var/lib/postgresql/$version/standby
cd / && runuser -u postgres -- pg_basebackup -R -D /var/lib/postgresql/$version/standby
systemctl start postgresql@$version-standby
"""
AS_ADMIN = "cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1"


@pytest.fixture(scope="module")
def other(machine: Machine) -> Iterator[Machine]:
    """The machine with both servers."""
    it = machines.create(f"{machine.name}-database", machine.release)
    machines.run(it, SERVERS.format(address=it.address))
    statements = (ROOT / "inventories/database.sql").read_text()
    for role, password in PASSWORDS.items():
        statements += f"alter role \"{role}\" password '{password}';\n"
    names = "-v database=airflow -v owner=airflow -v dags=airflow-dags"
    machines.run(it, f"{AS_ADMIN} {names}", stdin=statements.encode())
    machines.run(it, f"{AS_ADMIN} -c 'create database others'")
    yield it
    machines.remove(it.name)


@pytest.fixture(scope="module")
def there(other: Machine) -> Shell:
    """Runs a shell command on that machine."""
    return lambda command: machines.run(other, command).stdout.strip()


@pytest.fixture(scope="module")
def settings(other: Machine, there: Shell) -> dict[str, Any]:
    """The settings that lead there.

    At the first address nobody listens, at the last one the standby.
    """
    given = example(
        "existing_database",
        {f"db-{number}.example.com": other.address for number in (1, 2)},
        files={"our-ca.pem": there("cat /srv/tls/ca.pem")},
        environ={
            "DATABASE_OWNER_PASSWORD": PASSWORDS["airflow"],
            "DATABASE_DAGS_PASSWORD": PASSWORDS["airflow-dags"],
        },
    )
    given["postgres_hosts"].insert(0, f"{other.address}:1")
    return given


@pytest.fixture(scope="module")
def deployed(
    settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Deploy]:
    """Deploys with settings that differ from those above."""
    folder = tmp_path_factory.mktemp("inventory")

    def deploying(
        *arguments: str, what: tuple[str, ...] = ("deploy.py",), **more: object
    ) -> Deploy:
        return deploy(*arguments, inventory=inventory_with(settings | more, folder), what=what)

    return deploying


def wrong(role: str) -> dict[str, str]:
    """A login of the role with a wrong password."""
    return {"username": role, "password": "not the right one"}


# Before the first change


def test_a_wrong_password_is_found_when_only_the_client_is_there(
    deployed: Callable[..., Deploy], shell: Shell
) -> None:
    assert shell("command -v psql || true") == "", "the machine should be bare"
    run = deployed(postgres_dags_login=wrong("airflow-dags"))
    assert run.code != 0
    assert "postgres_dags_login: write the right username and password" in run.output
    assert shell("command -v psql"), "its client was not installed"
    # Nothing of Airflow is there, and no file with a password was left.
    assert shell("ls -d /etc/airflow 2>/dev/null; ls -A /run/airflow-ask.* 2>/dev/null; true") == ""
    assert shell(f"ls -A {TEMPORARY}") == ""


def test_a_server_that_is_not_right_is_refused_before_the_first_change(
    deployed: Callable[..., Deploy], other: Machine, there: Shell, shell: Shell
) -> None:
    there(
        "cd /srv/tls && openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=e2e"
        " -keyout other.key -out other.pem 2>/dev/null"
    )
    for changed, said in (
        ({"postgres_owner_login": wrong("airflow")}, "postgres_owner_login: write the right"),
        ({"postgres_ca_certificate": there("cat /srv/tls/other.pem")}, "postgres_ca_certificate:"),
        ({"postgres_ca_certificate": None}, "postgres_ca_certificate:"),
        ({"postgres_hosts": [f"{other.address}:1"]}, "postgres_hosts: write where it listens"),
        ({"postgres_hosts": [f"{other.address}:5433"]}, "postgres_hosts: name the primary"),
        ({"postgres_database": "others"}, 'alter database "others" owner to "airflow"'),
        ({"postgres_database": "missing"}, "postgres_database: inventories/database.sql"),
    ):
        run = deployed(**changed)
        assert run.code != 0
        assert "nothing was changed" in run.output and said in run.output, said
        for password in PASSWORDS.values():
            assert password not in run.output
    assert shell("ls -d /etc/airflow 2>/dev/null || true") == ""


# A deployed host


@pytest.fixture(scope="module")
def running(deployed: Callable[..., Deploy], machine: Machine, shell: Shell) -> Airflow:
    """Airflow, whose database is elsewhere."""
    run = deployed()
    assert run.code == 0, run.output
    bring_dag("e2e_broken", shell)
    return log_in(machine)


def test_the_host_has_no_postgresql_and_the_next_deploy_changes_nothing(
    running: Airflow, deployed: Callable[..., Deploy], shell: Shell
) -> None:
    run = deployed()
    assert run.code == 0, run.output
    assert run.changed == []
    assert shell("ls /usr/lib/postgresql/*/bin/postgres /etc/postgresql 2>/dev/null || true") == ""
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    servers = shell("ss -Htn state established dport = :5432 | wc -l")
    assert int(servers) > 3


def test_the_host_is_as_it_should_be(
    running: Airflow,
    settings: dict[str, Any],
    machine: Machine,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The rights of the role of DAGs' code are among its tests."""
    inventory = inventory_with(settings, tmp_path_factory.mktemp("host"))
    done = host_tests(machine, AIRFLOW_INVENTORY=inventory)
    assert done.returncode == 0, done.stdout


def test_dags_test_has_the_connections_of_the_database(running: Airflow, shell: Shell) -> None:
    running.request("POST", "/connections", connection("e2e_seen"))
    text = """
from airflow.sdk import Connection, dag, task


@dag(schedule=None)
def e2e_connection():
    @task
    def see():
        print("the type is", Connection.get("e2e_seen").conn_type)

    see()


e2e_connection()
"""
    bring_dag("e2e_connection", shell, text)
    assert "the type is http" in shell("airflow dags test e2e_connection 2>&1")
    shell("rm /opt/airflow/dags/e2e_connection.py")


def test_no_task_is_lost_while_the_database_is_away_for_half_a_minute(
    running: Airflow, patient: str, shell: Shell, there: Shell
) -> None:
    began = time.time()
    unit = "postgresql@$(ls /etc/postgresql)-main"
    there(f"systemd-run --quiet --on-active=30 systemctl start {unit}; systemctl stop {unit}")
    answers = f"{AS_ADMIN} -c 'select 1' 2>/dev/null || true"
    wait_for(lambda: there(answers) == "1", 60 + SLACK, "PostgreSQL is back")
    recovers(running, SMOKE_TEST, 60 + SLACK)
    assert not killed_by_liveness(shell, began)


def test_another_password_needs_no_restart(
    running: Airflow,
    settings: dict[str, Any],
    deployed: Callable[..., Deploy],
    shell: Shell,
    there: Shell,
) -> None:
    started = shell("systemctl show -P ExecMainStartTimestampMonotonic airflow-scheduler")
    PASSWORDS["airflow"] = secrets.token_urlsafe(16)
    there(f"{AS_ADMIN} <<'END'\nalter role airflow password '{PASSWORDS['airflow']}'\nEND")
    settings["postgres_owner_login"] = {"username": "airflow", "password": PASSWORDS["airflow"]}
    run = deployed()
    assert run.code == 0, run.output
    assert run.changed == ["PostgreSQL | Write the login of airflow"]
    assert shell("systemctl show -P ExecMainStartTimestampMonotonic airflow-scheduler") == started
    assert shell(f"{OWNER} 'select current_user'") == "airflow"


def test_a_backup_comes_back(running: Airflow, shell: Shell) -> None:
    running.request("POST", "/connections", connection("e2e_kept"))
    shell("systemctl start airflow-backup")  # in the sandbox of the timer
    backup = shell("ls /var/backups/airflow/airflow-*.tar | tail -n 1")
    running.request("DELETE", "/connections/e2e_kept")
    said = shell(f"airflow-restore {backup} 2>&1")
    assert "data is as it was when the backup was made" in said
    assert decrypted(shell, "e2e_kept") == KEPT_SECRET
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_a_promoted_standby_is_found(
    running: Airflow, patient: str, deployed: Callable[..., Deploy], there: Shell
) -> None:
    """Without a change of any setting, and without the loss of a task that runs."""
    there(
        "version=$(ls /etc/postgresql); pg_ctlcluster -m immediate $version main stop;"
        " pg_ctlcluster $version standby promote"
    )
    recovers(running, SMOKE_TEST, 60 + SLACK)
    assert deployed().changed == []


# The end


def test_the_removal_leaves_the_database_for_a_host_with_its_key(
    running: Airflow, deployed: Callable[..., Deploy], shell: Shell, there: Shell
) -> None:
    key = shell("cat /etc/airflow/secrets/fernet-key")
    run = deployed(what=REMOVAL)
    assert run.code == 0, run.output
    assert "stays as it is, with Airflow's data" in run.output
    assert deployed(what=REMOVAL).changed == []
    assert shell("ls -d /etc/airflow /opt/airflow 2>/dev/null || true") == ""
    count = "runuser -u postgres -- psql -XAtq -p 5433 airflow -c 'select count(*) from connection'"
    assert int(there(f"cd / && {count}")) > 0
    # The removal takes the client with it; a host that has one asks all.
    shell("DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes postgresql-client >/dev/null")
    run = deployed("--dry")
    assert run.code != 0 and "is that of another Airflow" in run.output
    shell(
        "install -d -m 700 /etc/airflow/secrets && umask 077"
        f" && cat > /etc/airflow/secrets/fernet-key <<'END'\n{key}\nEND"
    )
    run = deployed("--dry")
    assert run.code == 0, json.dumps(run.output)
