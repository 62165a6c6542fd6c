"""PostgreSQL: Airflow's own database, reached over the socket by who Linux says they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.airflow import CONFIG
from tasks.settings import Settings
from tests.host.support import Host, Listener, python

FACTS = """
select json_build_object(
    'version', current_setting('server_version_num')::int / 10000,
    'listen_addresses', current_setting('listen_addresses'),
    'hba_file', current_setting('hba_file'),
    'encoding', pg_encoding_to_char(d.encoding),
    'owner', d.datdba::regrole,
    'access', (select json_agg(json_build_array(type, database, user_name, auth_method, error))
               from pg_hba_file_rules),
    'role', (select to_json(r) from pg_roles r where rolname = 'airflow'),
    'password', (select rolpassword is not null from pg_authid where rolname = 'airflow'),
    'memberships', (select count(*) from pg_auth_members where member = 'airflow'::regrole),
    'superusers', (select json_agg(rolname) from pg_roles where rolsuper),
    'restart_waits_for', (select count(*) from pg_settings where pending_restart),
    'not_airflows', (select count(*) from pg_tables
                     where schemaname = 'public' and tableowner <> 'airflow'),
    'tables', (select count(*) from pg_tables where schemaname = 'public')
) from pg_database d where datname = 'airflow'
"""


@pytest.fixture(scope="module")
def database(host: Host) -> dict[str, Any]:
    """What PostgreSQL says of itself, asked as its superuser."""
    query = " ".join(FACTS.split())
    answer = host.check_output(f'cd / && runuser -u postgres -- psql -XAtqd airflow -c "{query}"')
    return dict(json.loads(answer))


def test_runs_and_starts_with_the_host(
    units: dict[str, dict[str, str]], settings: Settings
) -> None:
    cluster = units[f"postgresql@{settings.postgres_version}-main.service"]
    assert cluster["ActiveState"] == "active"
    assert units["postgresql.service"]["UnitFileState"] == "enabled"


def test_version(database: dict[str, Any], settings: Settings) -> None:
    assert database["version"] == settings.postgres_version


def test_runs_with_the_configuration_on_the_disk(database: dict[str, Any]) -> None:
    assert database["restart_waits_for"] == 0


def test_listens_on_no_port(
    database: dict[str, Any], listeners: list[Listener], settings: Settings
) -> None:
    if "listen_addresses" in settings.postgres_config:
        pytest.skip("the inventory lets PostgreSQL listen")
    assert database["listen_addresses"] == ""
    assert not [each for each in listeners if each.port == 5432 or "postgres" in each.process]


def test_only_linux_users_are_let_in(database: dict[str, Any], settings: Settings) -> None:
    assert database["hba_file"] == f"/etc/postgresql/{settings.postgres_version}/main/pg_hba.conf"
    assert database["access"] == [
        ["local", ["all"], ["postgres"], "peer", None],
        ["local", ["airflow"], ["airflow"], "peer", None],
    ]


@pytest.mark.parametrize(
    "right", ["rolsuper", "rolcreatedb", "rolcreaterole", "rolreplication", "rolbypassrls"]
)
def test_role_has_no_right_beyond_its_database(right: str, database: dict[str, Any]) -> None:
    assert database["role"][right] is False


def test_role_has_no_password_and_no_other_roles_rights(database: dict[str, Any]) -> None:
    assert database["role"]["rolcanlogin"] is True
    assert database["password"] is False
    assert database["memberships"] == 0
    assert database["superusers"] == ["postgres"]


def test_database_is_airflows(database: dict[str, Any]) -> None:
    assert database["owner"] == "airflow"
    assert database["encoding"] == "UTF8"
    assert database["tables"] > 0
    assert database["not_airflows"] == 0


@pytest.mark.parametrize(
    ("user", "role", "says"),
    [
        ("airflow", "airflow", "1"),
        ("nobody", "airflow", "Peer authentication failed"),
        ("nobody", "nobody", "no pg_hba.conf entry"),
        ("nobody", "postgres", "Peer authentication failed"),
        ("airflow", "postgres", "Peer authentication failed"),
    ],
)
def test_who_is_let_in(user: str, role: str, says: str, host: Host) -> None:
    done = host.run(
        f"cd / && runuser -u {user} -- psql -XAtqd airflow -U {role} -c 'select 1' 2>&1"
    )
    assert says in done.stdout
    assert (done.rc == 0) == (says == "1")


def test_both_urls_of_the_configuration_connect(host: Host, settings: Settings) -> None:
    interpreter = f"{settings.venv}/bin/python"
    assert python(host, "engines", CONFIG, interpreter=interpreter, user="airflow") == {
        "sync": "airflow",
        "async": "airflow",
    }
