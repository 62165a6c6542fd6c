"""PostgreSQL: Airflow's own database, reached over the socket as the Linux user."""

from __future__ import annotations

import json
import shlex
from typing import Any, NamedTuple

import pytest

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import Facts, Host, Listener, only_if, python

ROLES = list(expected.USERS)

FACTS = """
select json_build_object(
    'version', current_setting('server_version_num')::int / 10000,
    'listen_addresses', current_setting('listen_addresses'),
    'hba_file', current_setting('hba_file'),
    'encoding', pg_encoding_to_char(d.encoding),
    'owner', d.datdba::regrole,
    'access', (select json_agg(json_build_array(type, database, user_name, auth_method, error))
               from pg_hba_file_rules),
    'roles', (select json_object_agg(rolname, r) from pg_roles r where rolname like 'airflow%'),
    'passwords', (select count(rolpassword) from pg_authid),
    'memberships', (select count(*) from pg_auth_members
                    where member::regrole::text like '%airflow%'),
    'languages', (select json_agg(lanname order by lanname) from pg_language),
    'ssl', current_setting('ssl'),
    'password_encryption', current_setting('password_encryption'),
    'logged', current_setting('log_connections') || ' ' || current_setting('log_disconnections'),
    'readers_of_passwords', (select json_agg(rolname) from pg_roles
                             where rolcanlogin and has_table_privilege(oid, 'pg_authid', 'select')),
    'granted_to_all', (select count(*) from information_schema.role_table_grants
                       where grantee = 'PUBLIC'
                       and table_schema not in ('pg_catalog', 'information_schema')),
    'granted_on', (select count(*) from information_schema.role_table_grants
                   where is_grantable = 'YES' and grantee not in ('postgres', 'airflow')),
    'superusers', (select json_agg(rolname) from pg_roles where rolsuper),
    'restart_waits_for', (select count(*) from pg_settings where pending_restart),
    'not_airflows', (select count(*) from pg_tables
                     where schemaname = 'public' and tableowner <> 'airflow'),
    'tables', (select count(*) from pg_tables where schemaname = 'public')
) from pg_database d where datname = 'airflow'
"""


@pytest.fixture(scope="module")
def database(host: Host) -> dict[str, Any]:
    """PostgreSQL's answers about itself, asked as its superuser."""
    query = " ".join(FACTS.split())
    answer = host.check_output(f'cd / && runuser -u postgres -- psql -XAtqd airflow -c "{query}"')
    return dict(json.loads(answer))


def test_runs_and_starts_with_the_host(
    units: dict[str, dict[str, str]], settings: HostSettings
) -> None:
    cluster = units[f"postgresql@{settings.postgres.version}-main.service"]
    assert cluster["ActiveState"] == "active"
    assert units["postgresql.service"]["UnitFileState"] == "enabled"


def test_version(database: dict[str, Any], facts: Facts) -> None:
    debians = expected.POSTGRES[facts.settings.codename]
    # Debian's own, or that of the Debian before an upgrade in place.
    possible = [wanted] if (wanted := facts.given.postgres.version) else range(15, debians + 1)
    assert database["version"] in possible


def test_runs_with_the_configuration_on_the_disk(database: dict[str, Any]) -> None:
    assert database["restart_waits_for"] == 0


@only_if(
    lambda facts: "listen_addresses" not in facts.settings.postgres.config,
    "the inventory says where PostgreSQL listens",
)
def test_listens_on_no_port(database: dict[str, Any], listeners: list[Listener]) -> None:
    assert database["listen_addresses"] == ""
    assert not [
        each for each in listeners if each.port == "5432" or each.who.startswith("postgresql")
    ]


def test_only_linux_users_are_let_in(database: dict[str, Any], settings: HostSettings) -> None:
    assert database["hba_file"] == f"/etc/postgresql/{settings.postgres.version}/main/pg_hba.conf"
    assert database["access"] == [
        ["local", ["all"], ["postgres"], "peer", None],
        ["local", ["airflow", "airflow_new"], ["airflow"], "peer", None],
        ["local", ["airflow"], ["airflow-dags"], "peer", None],
        *([["local", ["airflow"], ["prometheus"], "peer", None]] * bool(settings.metrics.port)),
    ]


@pytest.mark.parametrize(
    "right", ["rolsuper", "rolcreatedb", "rolcreaterole", "rolreplication", "rolbypassrls"]
)
def test_roles_have_no_right_beyond_their_database(right: str, database: dict[str, Any]) -> None:
    assert set(database["roles"]) == set(ROLES)
    assert [role[right] for role in database["roles"].values()] == [False] * 2


def test_roles_have_no_password_and_no_other_roles_rights(database: dict[str, Any]) -> None:
    assert [role["rolcanlogin"] for role in database["roles"].values()] == [True] * 2
    assert database["passwords"] == 0
    assert database["memberships"] == 0
    assert database["superusers"] == ["postgres"]


# Further rules of a baseline: https://github.com/dev-sec/postgres-baseline


def test_languages_are_those_of_a_new_cluster(database: dict[str, Any]) -> None:
    assert database["languages"] == ["c", "internal", "plpgsql", "sql"]


def test_passwords_and_connections_by_network_would_be_protected(
    database: dict[str, Any],
) -> None:
    assert database["password_encryption"] == "scram-sha-256"
    assert database["ssl"] == "on"


@only_if(
    lambda facts: not {"log_connections", "log_disconnections"} & {*facts.settings.postgres.config},
    "the inventory decides about PostgreSQL's log",
)
def test_connections_are_logged(database: dict[str, Any]) -> None:
    assert database["logged"] == "on on"


def test_only_the_superuser_reads_passwords(database: dict[str, Any]) -> None:
    assert database["readers_of_passwords"] == ["postgres"]


def test_nothing_is_granted_to_everybody_or_to_be_granted_on(database: dict[str, Any]) -> None:
    assert database["granted_to_all"] == database["granted_on"] == 0


def test_database_is_airflows(database: dict[str, Any]) -> None:
    assert database["owner"] == "airflow"
    assert database["encoding"] == "UTF8"
    assert database["tables"] > 0
    assert database["not_airflows"] == 0


class Login(NamedTuple):
    """An attempt to log in: the Linux user, the role, and PostgreSQL's answer."""

    user: str
    role: str
    says: str


LOGINS = [
    Login("airflow", "airflow", "1"),
    Login("airflow-dags", "airflow-dags", "1"),
    Login("airflow-dags", "airflow", "Peer authentication failed"),
    Login("nobody", "airflow", "Peer authentication failed"),
    Login("nobody", "nobody", "no pg_hba.conf entry"),
    Login("nobody", "postgres", "Peer authentication failed"),
    Login("airflow", "postgres", "Peer authentication failed"),
]


@pytest.fixture(scope="module")
def logins(host: Host) -> dict[Login, str]:
    """PostgreSQL's answer to each attempt."""
    attempts = (
        f"runuser -u {user} -- psql -XAtqd airflow -U {role} -c 'select 1' 2>&1 | tail -n 1"
        for user, role, _ in LOGINS
    )
    lines = host.check_output(f"cd / && {'; '.join(attempts)}").splitlines()
    return dict(zip(LOGINS, lines, strict=True))


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: f"{login.user} as {login.role}")
def test_only_the_right_users_are_let_in(login: Login, logins: dict[Login, str]) -> None:
    said = logins[login]
    assert said == login.says if login.says == "1" else login.says in said


def test_both_urls_of_the_configuration_connect(host: Host, settings: HostSettings) -> None:
    programs = {user: f"runuser -u {user} -- {settings.venv}/bin/python" for user in ROLES}
    for user, interpreter in programs.items():
        found = python(host, "engines", "/etc/airflow/airflow.cfg", interpreter=interpreter)
        assert found == {"sync": user, "async": user}


@pytest.fixture(scope="module")
def rights(host: Host) -> dict[str, str]:
    """The rights of the role of DAGs' code in each table, as PostgreSQL itself sees them."""
    query = shlex.quote(" ".join(expected.RIGHTS_QUERY.split()))
    return expected.database_rights(
        host.check_output(f"cd / && runuser -u airflow -- psql -XAtqd airflow -c {query}")
    )


def test_each_table_has_been_decided_on(rights: dict[str, str]) -> None:
    new = rights.keys() - expected.DATABASE_RIGHTS.keys()
    assert not new, expected.undecided(new)


def test_dags_code_has_the_rights_that_it_needs_in_each_table(rights: dict[str, str]) -> None:
    assert rights == expected.DATABASE_RIGHTS


def test_dags_code_may_take_numbers_only_for_rows_that_it_may_add(host: Host) -> None:
    text = """
        select sequencename from pg_catalog.pg_sequences where schemaname = 'public'
        and has_sequence_privilege(
            'airflow-dags', format('public.%I', sequencename), 'usage, select, update'
        )
    """
    query = shlex.quote(" ".join(text.split()))
    ask = f"cd / && runuser -u airflow -- psql -XAtqd airflow -c {query}"
    found = host.check_output(ask).splitlines()
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
def states(host: Host) -> dict[str, str]:
    """How PostgreSQL ends each statement of DAGs' code. Nothing of it stays."""
    lines = [
        line
        for statement in ASKED
        for line in ("begin;", f"{statement};", r"\echo SQLSTATE :SQLSTATE", "rollback;")
    ]
    script = shlex.quote("\n".join(lines))
    said = host.check_output(
        f"cd / && printf %s {script} | runuser -u airflow-dags -- psql -XAtq airflow 2>/dev/null"
    )
    found = [line.split()[1] for line in said.splitlines() if line.startswith("SQLSTATE ")]
    return dict(zip(ASKED, found, strict=True))


@pytest.mark.parametrize("statement", ASKED)
def test_statements_of_dags_code_in_the_database(statement: str, states: dict[str, str]) -> None:
    assert states[statement] == (SUCCESSFUL if ASKED[statement] else INSUFFICIENT_PRIVILEGE)
