"""Linux user airflow-dags, as which the code of DAGs runs, attacks the database."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from urllib.error import HTTPError

import pytest

from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.support import SLACK, Airflow, bring_dag, deploy, host_tests
from tests.sandbox.machine import Machine
from tests.support import wait_for

DENIED = "permission denied"
WATCHED = "/var/lib/airflow-dags/e2e-rights"
# A pickle as the scheduler, the api-server or the command line would run it when they read it:
# os.system("id > /var/log/airflow/e2e-pickle").
PICKLE = b"cposix\nsystem\n(S'id > /var/log/airflow/e2e-pickle'\ntR."
ATTACKS = {
    # Airflow unpickles executor_config, as user airflow.
    "a pickle in a task": "update task_instance set executor_config ="
    f" decode('{PICKLE.hex()}', 'hex')",
    "a pickle in the history": "update task_instance_history set executor_config ="
    f" decode('{PICKLE.hex()}', 'hex')",
    "a task of its own": "insert into task_instance select * from task_instance",
    # The api-server renders it with Jinja, without a sandbox.
    "a template": "update log_template set filename = filename ||"
    " '{{ lipsum.__globals__.os.popen(''id > /var/log/airflow/e2e-template'').read() }}'",
    "another template": "insert into log_template (filename, elasticsearch_id, created_at)"
    " values ('x', 'x', now())",
    # Tables that people look at after an attack.
    "fewer records": "delete from log",
    "other records": "update log set owner = 'admin'",
    # Liveness kills the scheduler when its heartbeat is old.
    "an old heartbeat": "update job set latest_heartbeat = now() - interval '1 hour'"
    " where job_type = 'SchedulerJob'",
    "a heartbeat of nobody": "insert into job (job_type, state, latest_heartbeat)"
    " values ('SchedulerJob', 'running', now() - interval '1 hour')",
    # The permissions of users of the web page.
    "a right": "insert into ab_permission_view_role (permission_view_id, role_id)"
    " select p.id, r.id from ab_permission_view p, ab_view_menu m, ab_role r"
    " where m.id = p.view_menu_id and m.name = 'Users' and r.name = 'Public'",
    "a role": "insert into ab_user_role (user_id, role_id) values (1, 1)",
    "a password": "update ab_user set password = 'known'",
    # Code that the scheduler gives to an executor.
    "a callback": "insert into callback (id, type, fetch_method, data, priority_weight, created_at)"
    " values (gen_random_uuid(), 'executor', 'import_path', '{}', 1, now())",
    # Ids that Airflow gets from a sequence later, and numbers that Python does not read.
    "records of the future": "insert into log (id, dttm, event)"
    " select (select max(id) from log) + 1000, now(), 'x'",
    "services of the future": "insert into job (id, job_type, state)"
    " select (select max(id) from job) + 1000, 'TriggererJob', 'success'",
    "a long number in a DAG": "update dag set asset_expression ="
    " ('{\"a\":' || repeat('1', 5000) || '}')::json",
    "a long number in a task": "update task_instance set next_kwargs ="
    " ('{\"a\":' || repeat('1', 5000) || '}')::json",
    "deep data in a DAG": "update serialized_dag set data ="
    " (repeat('{\"a\":', 2000) || '1' || repeat('}', 2000))::json",
    # The way around the trigger that refuses the rows.
    "no trigger": "alter table job disable trigger all",
    "another trigger": "create or replace function airflow_dags_rows() returns trigger"
    " language plpgsql as 'begin return new; end'",
}


def ask(shell: Shell, statement: str, user: str = "airflow-dags") -> str:
    """The answer of PostgreSQL to the user; nothing of it stays."""
    text = shlex.quote(f"begin; {statement}; rollback;")
    return shell(f"cd / && runuser -u {user} -- psql -XAtq airflow -c {text} 2>&1; true")


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_refused(attack: str, shell: Shell) -> None:
    said = ask(shell, ATTACKS[attack])
    assert DENIED in said or "must be owner of" in said


def test_the_same_statements_are_understood(shell: Shell) -> None:
    """Otherwise they would be refused for another reason, as after a change of a table's name."""
    for attack in ("a pickle in a task", "a template", "fewer records", "an old heartbeat"):
        assert ask(shell, ATTACKS[attack], "airflow") == "", attack


def test_a_record_has_the_name_of_its_writer(shell: Shell) -> None:
    forge = "insert into log (dttm, event, owner) values (now(), 'e2e-forged', 'admin')"
    assert ask(shell, forge) == ""
    shell(f'cd / && runuser -u airflow-dags -- psql -XAtq airflow -c "{forge}"')
    owner = "select distinct owner from log where event = 'e2e-forged'"
    assert shell(f'cd / && runuser -u airflow -- psql -XAtq airflow -c "{owner}"') == "airflow-dags"


# A table that becomes a view, which runs a function of the owner's for whoever reads it; and a
# function that fits the call of PostgreSQL's own better.
PLANT = """
create table e2e_ran_as (who name);
create function e2e_note() returns text language plpgsql volatile as $body$ begin
    insert into public.e2e_ran_as values (current_user); return ''; end $body$;
alter table alembic_version_fab rename to e2e_fab;
create view alembic_version_fab as select version_num || public.e2e_note() as version_num
    from public.e2e_fab;
grant select on alembic_version_fab to "airflow-dags";
create function pg_database_size(text) returns bigint language plpgsql volatile as $body$ begin
    insert into public.e2e_ran_as values (current_user); return 1; end $body$;
"""
TAKE_BACK = """
drop function pg_database_size(text);
drop view alembic_version_fab;
alter table e2e_fab rename to alembic_version_fab;
drop function e2e_note();
drop table e2e_ran_as;
"""


def test_no_superuser_runs_code_of_the_databases_owner(shell: Shell) -> None:
    owner = "cd / && runuser -u airflow -- psql -XAtq -v ON_ERROR_STOP=1 airflow"
    shell(f"{owner} <<'END'\n{PLANT}\nEND")
    try:
        run = deploy("--dry")
        shell("rm $(airflow-backup e2e-planted)")
        who = shell(f"{owner} -c 'select distinct who from e2e_ran_as'")
    finally:
        shell(f"{owner} <<'END'\n{TAKE_BACK}\nEND")
    assert run.code == 0, run.output
    assert who == "airflow"


def test_the_scheduler_keeps_its_connections(shell: Shell) -> None:
    """The code of DAGs asks for all that there are."""
    one = "runuser -u airflow-dags -- psql -XAtq airflow -c 'select pg_sleep(15)'"
    shell(f"cd /tmp && for _ in $(seq 110); do {one} >>e2e-sessions 2>&1 & done; sleep 8")
    ask = "select count(*) <= 30 from pg_stat_activity where usename = 'airflow-dags'"
    try:
        assert shell(f'cd / && runuser -u airflow -- psql -XAtq airflow -c "{ask}"') == "t"
        wait_for(
            lambda: "too many connections for role" in shell("cat /tmp/e2e-sessions"),
            10 + SLACK,
            "the role has all that it may have",
        )
    finally:
        shell("sleep 10; rm -f /tmp/e2e-sessions")


def test_no_attack_left_anything(shell: Shell) -> None:
    assert shell("ls /var/log/airflow | grep ^e2e- || true") == ""


# They have the rights that they need.


@pytest.fixture(scope="module")
def since(shell: Shell) -> Iterator[str]:
    """The time on the machine before the DAGs came; they go afterwards."""
    now = shell("date +%s")
    shell(f"runuser -u airflow-dags -- touch {WATCHED}")
    bring_dag("e2e_rights", shell)
    yield now
    shell(f"rm -f /opt/airflow/dags/e2e_rights.py {WATCHED}")


def test_a_deferred_task_goes_on(since: str, airflow: Airflow) -> None:
    run = airflow.trigger("e2e_rights_deferred")
    runs.ends_well(airflow, "e2e_rights_deferred", run)
    assert "went on after" in airflow.log("e2e_rights_deferred", run, "wait")


def test_an_event_of_an_asset_starts_a_run(since: str, airflow: Airflow, shell: Shell) -> None:
    def started() -> str:
        found = airflow.request("GET", "/dags/e2e_rights_asset/dagRuns")["dag_runs"]
        return str(found[0]["dag_run_id"]) if found else ""

    wait_for(
        lambda: shell(f"test -e {WATCHED} || echo gone"), 60 + SLACK, "the triggerer takes the file"
    )
    run = wait_for(started, 60 + SLACK, "the asset's event starts a run")
    runs.ends_well(airflow, "e2e_rights_asset", str(run))


def test_a_callback_is_called(since: str, airflow: Airflow) -> None:
    run = airflow.trigger("e2e_rights_callback")

    def called() -> bool:
        try:
            said = str(airflow.request("GET", "/variables/e2e_rights")["value"])
        except HTTPError as error:
            if error.code != 404:
                raise
            return False
        return said == f"called back for {run}"

    wait_for(called, 120 + SLACK, "the dag-processor calls back")


def test_a_dag_that_changes_is_read_again(since: str, airflow: Airflow, shell: Shell) -> None:
    """Its asset, its tag and a DAG of the file go: the dag-processor deletes rows for that."""
    path = "/opt/airflow/dags/e2e_rights.py"
    shell(f"sed -i 's/schedule=.asset./schedule=None/; s/, tags=..e2e..//' {path}")
    shell(f"sed -i '/^e2e_rights_callback()$/d' {path}")

    def changed() -> bool:
        found = airflow.request("GET", "/dags/e2e_rights_asset/details")
        return found["asset_expression"] is None and not found["tags"]

    wait_for(changed, 60 + SLACK, "the DAG has no asset and no tag")


def test_nothing_was_denied_to_the_services(since: str, shell: Shell) -> None:
    for service in ("dag-processor", "triggerer"):
        said = shell(f"journalctl -q -o cat -u airflow-{service} --since=@{since}")
        assert said, f"airflow-{service} says nothing, so this proves nothing"
        assert DENIED not in said and "InsufficientPrivilege" not in said


def test_the_host_passes_its_tests(machine: Machine) -> None:
    for what in ("database", "postgres"):
        done = host_tests(machine, f"tests/host/test_{what}.py")
        assert done.returncode == 0, done.stdout
