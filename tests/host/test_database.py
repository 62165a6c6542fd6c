"""Airflow's database, wherever it is: the way to it, and the rights of the code of DAGs in it."""

from __future__ import annotations

import shlex

import pytest

from tasks.host import database
from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import Host, python

AS_OWNER = "/usr/local/lib/airflow/owner.sh psql -XAtq"


def as_dags(settings: HostSettings) -> str:
    """The beginning of a command that asks as the role of the code of DAGs."""
    return as_user("airflow-dags", database.variables(settings, "airflow-dags"), "psql", "-XAtq")


def as_user(user: str, variables: dict[str, str], *command: str) -> str:
    """A command of a Linux user with these variables."""
    words = database.words({"HOME": f"/var/lib/{user}", **variables}).split()
    return shlex.join(["runuser", "-u", user, "--", "env", *words, *command])


def in_words(settings: HostSettings, text: str) -> str:
    """A statement with the names of the roles of this host."""
    owner, dags = (database.role(settings, user) for user in expected.USERS)
    text = text.replace("airflow-dags", dags)
    return text.replace("set role airflow", f'set role "{owner}"')


def named(settings: HostSettings, text: str) -> str:
    """A query in one line, as an argument, with the names of the roles of this host."""
    return shlex.quote(in_words(settings, " ".join(text.split())))


def test_both_urls_of_each_user_connect(host: Host, settings: HostSettings) -> None:
    for user in expected.USERS:
        # An existing PostgreSQL does not know the role by the Linux user.
        given = database.urls_of_dags(settings) if user == "airflow-dags" else {}
        interpreter = as_user(user, given, f"{settings.venv}/bin/python")
        found = python(host, "engines", "/etc/airflow/airflow.cfg", interpreter=interpreter)
        role = database.role(settings, user)
        assert found == {"sync": role, "async": role}


@pytest.fixture(scope="module")
def rights(host: Host, settings: HostSettings) -> dict[str, str]:
    """The rights of the role of DAGs' code in each table, as PostgreSQL itself sees them."""
    query = named(settings, expected.RIGHTS_QUERY)
    return expected.database_rights(host.check_output(f"{AS_OWNER} -c {query}"))


def test_each_table_has_been_decided_on(rights: dict[str, str]) -> None:
    new = rights.keys() - expected.DATABASE_RIGHTS.keys()
    assert not new, expected.undecided(new)


def test_dags_code_has_the_rights_that_it_needs_in_each_table(rights: dict[str, str]) -> None:
    assert rights == expected.DATABASE_RIGHTS


def test_dags_code_may_take_numbers_only_for_rows_that_it_may_add(
    host: Host, settings: HostSettings
) -> None:
    text = """
        select sequencename from pg_catalog.pg_sequences where schemaname = 'public'
        and has_sequence_privilege(
            'airflow-dags', format('public.%I', sequencename), 'usage, select, update'
        )
    """
    query = named(settings, text)
    found = host.check_output(f"{AS_OWNER} -c {query}").splitlines()
    may_add = {
        f"{table}_id_seq"
        for table, given in expected.DATABASE_RIGHTS.items()
        if "insert" in given.split()
    }
    assert found
    assert set(found) <= may_add


# Statements of DAGs' code, and whether the database runs them.
ASKED = {
    "select count(*) from connection": True,
    "select count(*) from serialized_dag": True,
    "select count(*) from task_instance": True,
    "update variable set val = val": True,
    "update task_instance set trigger_id = null where state <> 'deferred'": True,
    "update job set latest_heartbeat = now() where job_type = 'TriggererJob'": True,
    "insert into log (dttm, event, owner) values (now(), 'host-test', 'admin')": True,
    "delete from import_error": True,
    "update connection set host = 'elsewhere'": False,
    "delete from connection": False,
    "select count(*) from ab_user": False,
    "update ab_user set password = 'known'": False,
    "insert into ab_user_role (user_id, role_id) values (1, 1)": False,
    "select count(*) from session": False,
    "insert into ab_role (name) values ('host-test')": False,
    "update task_instance set executor_config = null": False,
    "insert into task_instance (id) values (gen_random_uuid())": False,
    "update task_instance_history set executor_config = null": False,
    "update log_template set filename = filename": False,
    "update dag set is_paused = false": False,
    "select extra from log": False,
    "update log set event = event": False,
    "delete from log": False,
    "update job set latest_heartbeat = now() where job_type = 'SchedulerJob'": False,
    "insert into job (job_type) values ('SchedulerJob')": False,
    "insert into ab_permission_view_role (permission_view_id, role_id)"
    " select p.id, r.id from ab_permission_view p, ab_view_menu m, ab_role r"
    " where m.id = p.view_menu_id and m.name = 'Users' and r.name = 'Public'": False,
    "alter table job disable trigger all": False,
    "truncate task_instance": False,
    "create table host_test ()": False,
    'alter role "airflow-dags" superuser': False,
    "set role airflow": False,
}
# https://www.postgresql.org/docs/current/errcodes-appendix.html
SUCCESSFUL, INSUFFICIENT_PRIVILEGE = "00000", "42501"


@pytest.fixture(scope="module")
def states(host: Host, settings: HostSettings) -> dict[str, str]:
    """How PostgreSQL ends each statement of DAGs' code. Nothing of it stays."""
    lines = [
        line
        for statement in ASKED
        for line in (
            "begin;",
            f"{in_words(settings, statement)};",
            r"\echo SQLSTATE :SQLSTATE",
            "rollback;",
        )
    ]
    script = shlex.quote("\n".join(lines))
    said = host.check_output(f"cd / && printf %s {script} | {as_dags(settings)} 2>/dev/null")
    found = [line.split()[1] for line in said.splitlines() if line.startswith("SQLSTATE ")]
    return dict(zip(ASKED, found, strict=True))


@pytest.mark.parametrize("statement", ASKED)
def test_statements_of_dags_code_in_the_database(statement: str, states: dict[str, str]) -> None:
    assert states[statement] == (SUCCESSFUL if ASKED[statement] else INSUFFICIENT_PRIVILEGE)
