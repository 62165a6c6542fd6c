"""The rights of DAGs' code in Airflow's database, in a real PostgreSQL with all tables."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import expected
from tests.unit import postgres
from tests.unit.fake import FILES
from tests.unit.stand_ins import Host
from tests.unit.tables import TABLES, make_tables

GRANTS = (FILES / "usr/local/lib/airflow/grants.sql").read_text()
AS_OWNER = "set role airflow;\n"  # no superuser runs it
# The rights that an earlier deploy gave: all but the tables of logins, connections and versions.
FORMER = """
do $$ declare each text; begin
    for each in select tablename from pg_tables where schemaname = 'public' and tablename not in (
        'ab_group', 'ab_group_role', 'ab_register_user', 'ab_user', 'ab_user_group',
        'ab_user_role', 'revoked_token', 'session'
    ) loop
        execute format('grant select, insert, update, delete on public.%I to "airflow-dags"', each);
    end loop;
    for each in select sequencename from pg_sequences where schemaname = 'public' loop
        execute format('grant usage on sequence public.%I to "airflow-dags"', each);
    end loop;
end $$
"""
# Surplus rights, given by hand: on tables, columns and sequences, to the role and to all.
TOO_MUCH = """
grant all on ab_user to "airflow-dags" with grant option;
grant update (executor_config), insert (executor_config) on task_instance to "airflow-dags";
grant select (password) on ab_user to "airflow-dags";
grant all on sequence log_id_seq to "airflow-dags";
grant select on session to public;
grant update on log_template to public;
grant truncate, references, trigger on dag_run to "airflow-dags";
"""
# The rights of others than the owner: on tables, sequences and columns.
WRITTEN = """
select of, (r).grantee::regrole, (r).privilege_type, (r).is_grantable from (
    select oid::regclass::text as of, aclexplode(relacl) as r from pg_class
    where relnamespace = 'public'::regnamespace
    union select attrelid::regclass || '.' || attname, aclexplode(attacl) from pg_attribute
    where attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)
) as written
where (r).grantee <> 'airflow'::regrole order by 1, 3
"""


def host_of(server: postgres.Server, folder: Path, database: str, owner: str, dags: str) -> Host:
    """A host whose owner.sh leads to a database of the server, as the owner."""
    host = Host(folder)
    given = " ".join(f"{key}={value}" for key, value in server.environment.items())
    host.program("setpriv", f'shift 3\nexec env {given} PGUSER={owner} "$@"')
    host.values |= {"OWNER_CONNECTION": f"PGDATABASE={database}", "DAGS_ROLE": dags}
    return host


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """One for all tests of this file, with the roles of a host."""
    with postgres.server() as running:
        running.sql('create role airflow login; create role "airflow-dags" login')
        yield running


@pytest.fixture(scope="module")
def database(server: postgres.Server) -> str:
    """Name of a database that has the rights as they should be."""
    make_tables(server, "airflow")
    server.sql(f"{AS_OWNER}{GRANTS}\\gexec", "airflow")
    return "airflow"


def lacks(server: postgres.Server, database: str) -> str:
    """The statements that are missing."""
    return server.sql(f"{AS_OWNER}{GRANTS};", database)


def test_a_session_reads_the_last_times_that_python_has(
    server: postgres.Server, database: str
) -> None:
    """The host, and so the server, may be in another time zone."""
    far = "select timestamptz '9999-12-31 23:59:59+00'"
    server.sql("alter system set timezone = 'Europe/Berlin'")
    try:
        server.reload()
        assert server.sql(far, "postgres").startswith("10000-01-01")
        assert server.sql(far, database).startswith("9999-12-31")
    finally:
        server.sql("alter system reset timezone")
        server.reload()


def test_the_second_run_finds_nothing_to_do(server: postgres.Server, database: str) -> None:
    assert lacks(server, database) == ""


def test_the_deploy_gives_the_rights_once(
    server: postgres.Server, database: str, tmp_path: Path
) -> None:
    host = host_of(server, tmp_path, "deployed", "airflow", "airflow-dags")
    make_tables(server, "deployed")
    said = host.check("grants.sh")
    assert said.startswith("the role airflow-dags has other rights than it should, or the database")
    assert host.apply("grants.sh") == host.check("grants.sh") == ""
    host.values["OWNER_CONNECTION"] = "PGDATABASE=missing"
    done = host.run("grants.sh", "check")
    assert done.returncode == 1 and "does not tell the rights" in done.stderr


def test_other_roles_have_the_same_rights(server: postgres.Server, tmp_path: Path) -> None:
    """A managed PostgreSQL may impose names, and have a role prometheus of its own."""
    make_tables(server, "same")
    server.sql(f"{AS_OWNER}{GRANTS}\\gexec", "same")
    server.sql("create role Team_Owner login; create role runs_code login; create role prometheus")
    try:
        make_tables(server, "imposed", "team_owner")
        host = host_of(server, tmp_path, "imposed", "team_owner", "runs_code")
        host.values["METRICS_ROLE"] = ""
        assert host.apply("grants.sh") == host.check("grants.sh") == ""
        written = server.sql(WRITTEN.replace("'airflow'", "'team_owner'"), "imposed")
        assert "runs_code" in written and "prometheus" not in written
        assert written.replace("runs_code", '"airflow-dags"') == server.sql(WRITTEN, "same")
        # The rows that it may write are its own as well.
        with pytest.raises(AssertionError, match="runs_code may not write this row of job"):
            server.sql(
                "set role runs_code; insert into job (job_type) values ('SchedulerJob')", "imposed"
            )
    finally:
        server.sql("drop database if exists imposed")
        server.sql("drop role team_owner; drop role runs_code; drop role prometheus")


@pytest.mark.parametrize(
    ("name", "before"), [("former", FORMER), ("by_hand", FORMER + ";" + TOO_MUCH)]
)
def test_one_run_revokes_all_surplus_rights(
    server: postgres.Server, database: str, name: str, before: str
) -> None:
    make_tables(server, name)
    server.sql(before, name)
    assert lacks(server, name)
    server.sql(f"{AS_OWNER}{GRANTS}\\gexec", name)
    assert lacks(server, name) == ""
    # All of it, as PostgreSQL writes it down, is as where there was nothing before.
    assert server.sql(WRITTEN, name) == server.sql(WRITTEN, database)


def test_a_lost_trigger_or_another_function_is_noticed(
    server: postgres.Server, database: str
) -> None:
    for damage in (
        "drop trigger airflow_dags_rows on job",
        "alter table log disable trigger airflow_dags_rows",
        "drop function airflow_dags_rows cascade",
        "create or replace function airflow_dags_rows() returns trigger language plpgsql"
        " as 'begin return new; end'",
    ):
        server.sql(damage, database)
        assert lacks(server, database), damage
        server.sql(f"{AS_OWNER}{GRANTS}\\gexec", database)
        assert lacks(server, database) == "", damage


def test_the_owner_of_the_database_may_do_it(server: postgres.Server) -> None:
    make_tables(server, "owners")
    as_owner = {**server.environment, "PGUSER": "airflow"}
    command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "owners"]
    for end in (r"\gexec", ";"):
        done = subprocess.run(
            command, env=as_owner, input=f"{GRANTS}{end}", text=True, capture_output=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_superuser_runs_nothing_of_the_owner(server: postgres.Server) -> None:
    """The owner of a database decides where its sessions look for names first."""
    make_tables(server, "planted")
    planted = "create schema evil; create table evil.seen (who text);"
    for function, type_ in (
        ("quote_ident", "text"),
        ("upper", "text"),
        ("aclexplode", "aclitem[]"),
    ):
        planted += (
            f"create function evil.{function}({type_}) returns text language sql as"
            " 'insert into evil.seen values (current_user) returning who';"
        )
    planted += "create view evil.pg_class as select * from pg_catalog.pg_class where false;"
    planted += "alter database planted set search_path = evil, pg_catalog, public;"
    server.sql(f"set role airflow; {planted}", "planted")
    assert server.sql("select quote_ident('x'); select who from evil.seen", "planted") == (
        "postgres\npostgres"
    ), "a planted function would not be found"
    server.sql("truncate evil.seen", "planted")
    server.sql(f"{AS_OWNER}{GRANTS}\\gexec", "planted")
    assert lacks(server, "planted") == ""
    assert server.sql("select who from evil.seen", "planted") == ""
    assert (
        expected.database_rights(server.sql(expected.RIGHTS_QUERY, "planted"))
        == expected.DATABASE_RIGHTS
    )


def test_each_table_of_airflow_has_been_decided_on() -> None:
    decided = re.findall(r"(?m)^    \('(\w+)', '", GRANTS.partition("guard (source)")[0])
    assert len(decided) == len(set(decided))
    new, gone = sorted(TABLES.keys() - set(decided)), sorted(set(decided) - TABLES.keys())
    assert not new, expected.undecided(new)
    assert not gone, f"grants.sql names tables that Airflow does not have: {', '.join(gone)}"


def test_each_column_that_is_named_exists() -> None:
    for table, rights in expected.DATABASE_RIGHTS.items():
        named = {name for names in re.findall(r"\((.*?)\)", rights) for name in names.split(",")}
        assert named <= {column.rstrip("*") for column in TABLES[table]}, table


def test_rights_are_those_of_the_list(server: postgres.Server, database: str) -> None:
    found = expected.database_rights(server.sql(expected.RIGHTS_QUERY, database))
    assert found == expected.DATABASE_RIGHTS


def test_a_table_of_a_later_version_is_closed(server: postgres.Server) -> None:
    make_tables(server, "later")
    server.sql(f"{AS_OWNER}create table brand_new (id serial, secret text)", "later")
    # It belongs to another role, which decides about it.
    server.sql("create table others (id int); grant select on others to public", "later")
    server.sql('grant all on brand_new to "airflow-dags"', "later")
    server.sql(f"{AS_OWNER}{GRANTS}\\gexec", "later")
    assert lacks(server, "later") == ""
    assert expected.database_rights(server.sql(expected.RIGHTS_QUERY, "later"))["brand_new"] == ""
    uses = (
        "select has_sequence_privilege('airflow-dags', 'brand_new_id_seq', 'usage, select, update')"
    )
    assert server.sql(uses, "later") == "f"


def test_the_guards_of_rows_are_for_the_role_of_another_name(server: postgres.Server) -> None:
    """A dump of another server brings those that name its own role."""
    make_tables(server, "moved")
    server.sql(f"{AS_OWNER}{GRANTS}\\gexec", "moved")
    other = GRANTS.replace("airflow-dags", "team-dags")
    server.sql('create role "team-dags"')
    try:
        assert "create or replace trigger" in server.sql(f"{AS_OWNER}{other}", "moved")
        server.sql(f"{AS_OWNER}{other}\\gexec", "moved")
        assert server.sql(f"{AS_OWNER}{other}", "moved") == ""
    finally:
        server.sql("drop database moved")
        server.sql('drop role "team-dags"')


def test_sequences_are_for_tables_that_get_rows(server: postgres.Server, database: str) -> None:
    uses = "select has_sequence_privilege('airflow-dags', '{}_id_seq', 'usage')"
    for table, columns in TABLES.items():
        if "id*" in columns:
            wanted = "insert" in expected.DATABASE_RIGHTS[table].split()
            assert server.sql(uses.format(table), database) == "ft"[wanted], table


# Rows


ROWS = """
insert into job (id, job_type) values ('1', 'SchedulerJob'), ('2', 'TriggererJob');
insert into callback (id, type)
values ('1', 'executor'), ('2', 'triggerer'), ('3', 'dag_processor');
insert into task_instance (id, executor_config) values ('1', 'true one');
insert into asset (name) values ('one');
insert into hitl_detail (ti_id, responded_by)
values ('1', '{"id": "ada"}'), ('2', null), ('3', 'null');
insert into ab_view_menu (id, name)
values ('1', 'Users'), ('2', 'DAG:mine'), ('3', 'DAG Run:mine');
insert into ab_permission_view (id, view_menu_id) values ('1', '1'), ('2', '2'), ('3', '3');
insert into ab_permission_view_role (id, permission_view_id, role_id) values ('1', '1', '1');
"""
# Airflow takes the ids of these rows from a sequence, and names them.
RIGHT = (
    "insert into ab_permission_view_role (id, permission_view_id, role_id)"
    " values (nextval('ab_permission_view_role_id_seq'), {})"
)
DEEP, LONG = '{"a": ' * 300 + "1" + "}" * 300, "1" * 5000
# Statements, and whether they are let through.
ASKED = {
    "update job set latest_heartbeat = now() where id = '2'": True,
    "update job set latest_heartbeat = now() where id = '1'": False,
    "insert into job (job_type) values ('DagProcessorJob')": True,
    "insert into job (job_type) values ('SchedulerJob')": False,
    "insert into job (id) values ('3')": False,
    "insert into callback (type) values ('dag_processor')": True,
    "insert into callback (type) values ('triggerer')": False,
    "insert into callback (type) values ('executor')": False,
    "update callback set state = 'success' where id = '2'": True,
    "update callback set state = 'success' where id = '1'": False,
    "delete from callback where id = '3'": True,
    "delete from callback where id = '1'": False,
    RIGHT.format("2, 1"): True,
    RIGHT.format("3, 1"): True,
    RIGHT.format("1, 1"): False,
    RIGHT.format("9, 1"): False,
    "delete from ab_permission_view_role where permission_view_id = '1'": False,
    # Airflow reads such a task in no process.
    "update task_instance set next_kwargs = '\"x\"'": False,
    "update task_instance set next_kwargs = '{\"x\": 1}'": True,
    # Of most tasks, SQLAlchemy has written JSON's null there.
    "update task_instance set next_kwargs = 'null'": True,
    "update task_instance set next_kwargs = null": True,
    "insert into task_instance_history (next_kwargs) values ('5')": False,
    "insert into task_instance_history (next_kwargs) values ('{}')": True,
    # Python reads none of these.
    f"update task_instance set next_kwargs = '{DEEP}'": False,
    f"update task_instance set next_kwargs = '{{\"x\": [-{LONG}]}}'": False,
    f'update task_instance set next_kwargs = \'{{"x": "{LONG}"}}\'': True,
    # Airflow would get these ids later, and fail.
    "insert into log (id) select last_value + 9 from log_id_seq": False,
    "insert into log (id) values (1000)": False,
    "insert into log (id) values (nextval('log_id_seq'))": True,
    "update asset set id = 1000": False,
    "update asset set id = id, name = 'another'": True,
    "select setval('log_id_seq', 1000)": False,
    # A person's answer stays; one that nobody gave may be the default one.
    "update hitl_detail set chosen_options = '[]' where ti_id = '1'": False,
    "update hitl_detail set chosen_options = '[]' where ti_id = '2'": True,
    # A task that is tried again has lost its answer: SQLAlchemy has written JSON's null there.
    "update hitl_detail set chosen_options = '[]' where ti_id = '3'": True,
    # Tables of the session come before those of the guard's own path.
    "create temp table pg_attribute (attrelid oid, attname name, attisdropped bool, atttypid oid);"
    f" update task_instance set next_kwargs = '{DEEP}'": False,
    "create temp view pg_sequences as select * from pg_catalog.pg_sequences where false;"
    " insert into log (id) values (1000)": False,
    # The scheduler would make as many task instances.
    "insert into task_map (length) values ('2000000000')": False,
}


@pytest.fixture
def rows(server: postgres.Server, database: str) -> Iterator[str]:
    """The same database with some rows, of which nothing stays."""
    server.sql(ROWS, database)
    yield database
    filled = {*re.findall(r"into (\w+)", ROWS), "log", "task_instance_history"}
    server.sql(f"truncate {', '.join(sorted(filled))}", database)


@pytest.mark.parametrize("statement", ASKED)
def test_which_rows_are_open(server: postgres.Server, rows: str, statement: str) -> None:
    done = subprocess.run(
        ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, rows],
        env={**server.environment, "PGUSER": "airflow-dags"},
        text=True,
        capture_output=True,
    )
    assert (done.returncode == 0) is ASKED[statement]
    assert ("permission denied" in done.stderr) is not ASKED[statement]


def test_nobody_writes_the_audit_log_in_anothers_name(server: postgres.Server, rows: str) -> None:
    server.sql(
        'set role "airflow-dags"; insert into log (event, owner, owner_display_name)'
        " values ('forged', 'admin', 'Admin')",
        rows,
    )
    server.sql("insert into log (event, owner) values ('true', 'admin')", rows)
    assert server.sql("select event, owner, owner_display_name from log order by 1", rows) == (
        "forged|airflow-dags|\ntrue|admin|"
    )


def test_a_pickle_in_the_history_is_the_one_of_the_task(server: postgres.Server, rows: str) -> None:
    for task in ("1", "2"):
        server.sql(
            'set role "airflow-dags"; insert into task_instance_history'
            f" (task_instance_id, executor_config) values ('{task}', 'forged')",
            rows,
        )
    found = server.sql("select executor_config from task_instance_history order by 1", rows)
    assert found.split("\n") == ["true one"]  # and nothing where there is no such task


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-01-02 03:04:05.678901", None),
        ("0002-01-01", None),
        ("9998-12-31", None),
        ("9999-12-31 23:59:59", "9998-12-31"),
        ("294000-01-01", "9998-12-31"),
        ("infinity", "9998-12-31"),
        ("0001-01-01", "0002-01-01"),
        ("0044-03-15 BC", "0002-01-01"),
        ("-infinity", "0002-01-01"),
    ],
)
def test_a_time_that_airflow_cannot_read_becomes_another(
    server: postgres.Server, rows: str, given: str, kept: str | None
) -> None:
    changed = "alter table asset_dag_run_queue alter created_at type {} using null"
    server.sql(changed.format("timestamptz"), rows)
    try:
        row = f"insert into asset_dag_run_queue values ('1', 'x', '{given}'), ('2', 'y', null)"
        server.sql(f'set timezone = utc; set role "airflow-dags"; {row}', rows)
        found = server.sql(
            "set timezone = utc; select asset_id, target_dag_id, created_at is null,"
            f" created_at = '{kept or given}' from asset_dag_run_queue order by 1",
            rows,
        )
        assert found == "1|x|f|t\n2|y|t|"
        server.sql('set role "airflow-dags"; delete from asset_dag_run_queue', rows)
    finally:
        server.sql(f"truncate asset_dag_run_queue; {changed.format('text')}", rows)


def test_of_two_equal_keys_the_one_that_was_looked_at_stays(
    server: postgres.Server, rows: str
) -> None:
    changed = "alter table asset alter extra type {} using extra::{}"
    server.sql("update asset set extra = '{}';" + changed.format("json", "json"), rows)
    try:
        for text, kept in (
            (f'{{"a": {LONG}, "a": 1}}', '{"a": 1}'),
            ('{"b": [1.50, "é"], "a": null}', '{"a": null, "b": [1.50, "é"]}'),
            ("null", "null"),
        ):
            server.sql(f"set role \"airflow-dags\"; update asset set extra = '{text}'", rows)
            assert server.sql("select extra from asset", rows) == kept
        server.sql('set role "airflow-dags"; update asset set extra = null', rows)
        assert server.sql("select extra is null from asset", rows) == "t"
    finally:
        server.sql(changed.format("text", "text"), rows)
