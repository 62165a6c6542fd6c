"""PostgreSQL: Airflow's own database, reached over the socket as the Linux user."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import OWN_POSTGRES, Facts, Host, Listener, only_if

pytestmark = OWN_POSTGRES
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


def test_the_code_of_dags_leaves_connections_for_the_others(database: dict[str, Any]) -> None:
    limits = {name: role["rolconnlimit"] for name, role in database["roles"].items()}
    assert limits == {"airflow": -1, "airflow-dags": 30}


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
