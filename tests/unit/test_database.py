"""An existing PostgreSQL: the settings, the way to it, the questions, a backup and its restoration.

The PostgreSQL is a real one, which speaks TLS with a certificate of the tests' own and asks for
passwords or client certificates.
"""

from __future__ import annotations

import ipaddress
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tasks import layout
from tasks.host import database
from tasks.preflight import database as preflight
from tasks.preflight.questions import Report
from tasks.settings import Settings
from tests.support import free_port
from tests.unit import fake, postgres
from tests.unit.database_host import Host
from tests.unit.fake import EXISTING_DATABASE
from tests.unit.tables import fill_with_tables

SERVER = fake.pair(90, x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
STRANGER = fake.pair(90, x509.DNSName("localhost"))
ADMINS = (layout.ROOT / "inventories/database.sql").read_text()
# pg_hba.conf: a superuser of the tests over the socket, and others with their password over TLS.
ACCESS = """
local all postgres trust
local all all reject
hostssl all all 127.0.0.1/32 scram-sha-256
"""


def refusal(**given: object) -> str:
    """The sentences with which an inventory is refused."""
    data = {**EXISTING_DATABASE, **given}
    return fake.refusal({key: value for key, value in data.items() if value is not None})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"postgres_hosts": None}, "postgres_hosts: postgres_provider"),
        ({"postgres_hosts": ["db:0"]}, "has no port from 1 to 65535"),
        ({"postgres_hosts": ["user@db"]}, "is no address and no name of a host"),
        ({"postgres_owner_login": None}, "postgres_owner_login: postgres_provider"),
        ({"postgres_dags_login": {"username": "d"}}, "write a password, or a certificate"),
        (
            {"postgres_dags_login": {"username": "d", "certificate": fake.PAIR["certificate"]}},
            "write a password, or a certificate and its key",
        ),
        (
            {"postgres_dags_login": {"username": "d", **fake.PAIR, "key": fake.pair()["key"]}},
            "postgres_dags_login: key does not belong to the certificate",
        ),
        (
            {"postgres_dags_login": {"username": "team_owner", "password": "p"}},
            "needs a role of its own",
        ),
        ({"postgres_dags_login": {"username": "a b", "password": "p"}}, "should have the form"),
        ({"postgres_config": {"work_mem": "8MB"}}, "whose options are its admin's"),
        (
            {"postgres_sslmode": "verify-ca", "postgres_ca_certificate": None},
            "write postgres_ca_certificate",
        ),
        ({"postgres_sslmode": "require"}, "postgres_sslmode: should be"),
        ({"metrics_port": 9187}, "metrics_port: the endpoint has the figures of the host's own"),
        (
            {"airflow_config": {"database": {"sql_alchemy_conn": "x"}}},
            "use postgres_provider and postgres_hosts",
        ),
    ],
)
def test_what_can_not_work_is_refused(given: dict[str, Any], said: str) -> None:
    sentence = refusal(**given)
    assert said in sentence and "\n" not in sentence and "hidden" not in sentence


@pytest.mark.parametrize("name", ["ssl_cert_file", "SSL_ciphers", "ssl"])
def test_tls_of_a_postgresql_without_a_network_is_refused(name: str) -> None:
    """A reload accepts a wrong file, and the next start does not."""
    said = refusal(postgres_provider="debian", postgres_config={name: "/nowhere"})
    assert f"decides {name}: PostgreSQL has no network here" in said


def test_settings_of_an_existing_one_are_refused_with_debians() -> None:
    lines = refusal(postgres_provider="debian").splitlines()
    own = [key for key in EXISTING_DATABASE if key != "postgres_provider"]
    assert sorted(line.partition(" ")[0] for line in lines) == sorted(own)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("db", ("db", 5432)),
        ("db:5433", ("db", 5433)),
        ("192.0.2.1:5433", ("192.0.2.1", 5433)),
        ("2001:db8::5", ("2001:db8::5", 5432)),
        ("[2001:db8::5]", ("2001:db8::5", 5432)),
        ("[2001:db8::5]:5433", ("2001:db8::5", 5433)),
    ],
)
def test_a_server_has_an_address_and_a_port(given: str, expected: tuple[str, int]) -> None:
    settings = fake.settings({**EXISTING_DATABASE, "postgres_hosts": [given]})
    assert settings.postgres.servers == [expected]


def test_no_url_and_no_value_of_the_host_has_a_secret() -> None:
    plan = fake.plan(fake.settings(EXISTING_DATABASE))
    secret = [
        path for path, text in plan.uploads.items() if "hidden" in text or fake.PAIR["key"] in text
    ]
    assert secret == []
    for each in plan.operations:
        assert "hidden" not in " ".join(each.commands) + each.name
    inputs = {each.name: each.inputs for each in plan.operations if each.inputs}
    owner, dags = (inputs[f"PostgreSQL | Write the login of {user}"] for user in layout.HOMES)
    assert owner == ["*:*:*:team_owner:hidden\\:in\\\\file\n"]
    assert dags == [f"{fake.PAIR['certificate'].strip()}\n{fake.PAIR['key'].strip()}\n"]


def test_each_process_has_the_login_of_its_own_role() -> None:
    settings = fake.settings(EXISTING_DATABASE)
    plan = fake.plan(settings)
    owner, dags = layout.DATABASE_LOGINS.values()
    config = plan.uploads[layout.CONFIG]
    assert config.count(f"passfile={owner}") == 2 and dags not in config
    for user, path in layout.DATABASE_LOGINS.items():
        written = plan.named(f"PostgreSQL | Write the login of {user}").commands[1]
        assert f"\nset -- {path} {user}:root 400\n" in written
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        text = plan.uploads[f"/etc/systemd/system/airflow-{name}.service.d/30-host.conf"]
        is_dags = name in ("dag-processor", "triggerer")
        assert text.count(f"sslkey={dags}") == (2 if is_dags else 0)
        assert owner not in text
        for option in ("SQL_ALCHEMY_CONN", "SQL_ALCHEMY_CONN_ASYNC"):
            assert (f'"AIRFLOW__DATABASE__{option}=postgresql+psycopg' in text) is is_dags


def test_all_servers_and_the_authority_are_in_the_url() -> None:
    url = database.url("psycopg2", fake.settings(EXISTING_DATABASE))
    assert url.startswith("postgresql+psycopg2://team_owner@/team?")
    for part in (
        # SQLAlchemy wants as many ports as hosts.
        "host=db-1.example,db-2.example,2001:db8::5&",
        "port=5432,5433,5434&",
        "sslmode=verify-full&",
        f"sslrootcert={layout.DATABASE_AUTHORITY}&",
        "target_session_attrs=read-write&",
    ):
        assert part in url
    public = fake.settings(EXISTING_DATABASE | {"postgres_ca_certificate": None})
    assert "sslrootcert=/etc/ssl/certs/ca-certificates.crt&" in database.url("psycopg", public)


def test_the_host_has_no_postgresql_of_its_own() -> None:
    plan = fake.plan(fake.settings(EXISTING_DATABASE))
    packages = " ".join(plan.named("Install Debian packages").commands)
    assert "postgresql-client-15" in packages and "postgresql-15" not in packages
    assert not [path for path in plan.uploads if path.startswith("/etc/postgresql")]
    assert not [path for path, text in plan.uploads.items() if "postgresql.service" in text]
    assert not [
        each for each in plan.operations if "runuser -u postgres" in " ".join(each.commands)
    ]
    # Nothing but the client is there before the database is asked.
    assert plan.names[:2] == [
        "Database | Install PostgreSQL's client",
        "Database | Check the existing database",
    ]
    backup = plan.uploads["/etc/systemd/system/airflow-backup.service.d/30-host.conf"]
    assert "PrivateNetwork=no" in backup
    own = fake.plan(fake.settings()).uploads
    assert "PrivateNetwork" not in own["/etc/systemd/system/airflow-backup.service.d/30-host.conf"]
    for unit in ("scheduler", "triggerer", "backup", "cleanup-history"):
        text = own[f"/etc/systemd/system/airflow-{unit}.service.d/30-host.conf"]
        assert "After=postgresql.service\n" in text


def test_the_removal_drops_nothing_there(caplog: pytest.LogCaptureFixture) -> None:
    plan = fake.removal(EXISTING_DATABASE, False)
    said = " ".join(command for each in plan.operations for command in each.commands)
    assert "dropdb" not in said and "dropuser" not in said and "psql" not in said
    assert "dropdb" in " ".join(fake.removal({}, False).named("Remove the database").commands)


# With a real server


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """One that an admin prepared with the statements of the README, and a client can reach."""
    with postgres.server(free_port(), SERVER) as running:
        admins(running, "airflow", "airflow", "airflow-dags")
        running.sql("create database others; create role stranger login password 'x'")
        (running.folder / "data/pg_hba.conf").write_text(ACCESS)
        running.reload()
        yield running


def admins(server: postgres.Server, name: str, owner: str, dags: str) -> None:
    """Run the statements that inventories/database.sql has for an admin."""
    given = {"database": name, "owner": owner, "dags": dags}
    subprocess.run(
        [
            "psql",
            "-Xq",
            "-v",
            "ON_ERROR_STOP=1",
            *(f"-v{key}={value}" for key, value in given.items()),
        ],
        env=server.environment,
        input=ADMINS,
        text=True,
        check=True,
    )
    server.sql(f"""alter role "{owner}" password 'owner''s:\\pass'""")
    server.sql(f"""alter role "{dags}" password 'dags pass'""")


def given(server: postgres.Server, **changed: object) -> dict[str, Any]:
    """The settings that lead there."""
    found: dict[str, Any] = {
        "postgres_provider": "existing",
        "postgres_hosts": [f"localhost:{server.port}"],
        "postgres_owner_login": {"username": "airflow", "password": "owner's:\\pass"},
        "postgres_dags_login": {"username": "airflow-dags", "password": "dags pass"},
        "postgres_ca_certificate": SERVER["certificate"],
    }
    return {key: value for key, value in {**found, **changed}.items() if value is not None}


def asked(
    server: postgres.Server, folder: Path, path: str | None = None, **changed: object
) -> list[str]:
    """The findings about the server, asked with the program of a bare host."""
    settings = Settings.from_data(given(server, **changed))
    text = preflight.variables(settings) + preflight.PROGRAM.read_text()
    for place in (layout.SECRETS, layout.STATE, "/run/airflow-ask"):
        text = text.replace(place, f"{folder}{place}")
    (folder / "run").mkdir(exist_ok=True)
    done = subprocess.run(
        ["sh", "-c", text],
        input=preflight.files(settings),
        env={"PATH": path or server.environment["PATH"]},
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert not list((folder / "run").iterdir()), "a login stays on the host"
    report = Report({})
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        report.values.setdefault(key, []).append(value)
    return list(preflight.findings(settings, report))


def test_one_as_the_readme_has_it_is_accepted(server: postgres.Server, tmp_path: Path) -> None:
    assert asked(server, tmp_path) == []
    # The first one is dead.
    hosts = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{server.port}"]
    assert asked(server, tmp_path, postgres_hosts=hosts) == []


WRONG_OWNER = {"username": "airflow", "password": "wrong"}
WRONG_DAGS = {"username": "airflow-dags", "password": "wrong"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"postgres_owner_login": WRONG_OWNER}, "postgres_owner_login: write the right username"),
        ({"postgres_dags_login": WRONG_DAGS}, "postgres_dags_login: write the right username"),
        ({"postgres_ca_certificate": STRANGER["certificate"]}, "postgres_ca_certificate: write"),
        ({"postgres_ca_certificate": None}, "postgres_ca_certificate: write"),
        ({"postgres_hosts": ["127.0.0.1:1"]}, "postgres_hosts: write where it listens"),
        ({"postgres_hosts": ["nowhere.invalid"]}, "postgres_hosts: write where it listens"),
        ({"postgres_database": "nothing"}, "postgres_database: inventories/database.sql"),
        ({"postgres_database": "others"}, 'alter database "others" owner to "airflow"'),
        (
            {"postgres_owner_login": {"username": "stranger", "password": "x"}},
            "postgres_owner_login: its admin should run `grant connect on database` for this role",
        ),
    ],
)
def test_another_one_is_refused_with_one_sentence(
    changed: dict[str, Any], said: str, server: postgres.Server, tmp_path: Path
) -> None:
    (finding,) = asked(server, tmp_path, **changed)
    assert said in finding and "\n" not in finding
    assert "pass" not in finding.replace("password", "")


def test_a_name_that_is_not_in_the_certificate_is_refused(
    server: postgres.Server, tmp_path: Path
) -> None:
    # This certificate is for localhost only.
    with postgres.server(free_port(), STRANGER) as other:
        changed = {"postgres_ca_certificate": STRANGER["certificate"]}
        hosts = [f"127.0.0.1:{other.port}"]
        (finding,) = asked(other, tmp_path, postgres_hosts=hosts, **changed)
        assert "postgres_hosts: write a name that is in the server's certificate" in finding
        # A person may leave that out, for an authority with one server.
        found = asked(
            other, tmp_path, postgres_hosts=hosts, postgres_sslmode="verify-ca", **changed
        )
        roles = ("postgres_owner_login", "postgres_dags_login")  # this server has none
        assert [any(role in each for each in found) for role in roles] == [True, True]


def test_a_password_and_a_certificate_are_read_from_one_file(
    server: postgres.Server, tmp_path: Path
) -> None:
    client = fake.pair()
    authority = server.folder / "clients"
    authority.write_text(client["certificate"])
    authority.chmod(0o644)
    access = server.folder / "data/pg_hba.conf"
    both: dict[str, Any] = {**given(server)["postgres_owner_login"], **client}
    wants = "hostssl all airflow 127.0.0.1/32 scram-sha-256 clientcert=verify-ca"
    try:
        access.write_text(ACCESS.replace("hostssl", f"{wants}\nhostssl", 1))
        server.sql(f"alter system set ssl_ca_file = '{authority}'")
        server.reload()
        assert asked(server, tmp_path, postgres_owner_login=both) == []
        (finding,) = asked(server, tmp_path)
        assert "postgres_owner_login: write the client's certificate and key" in finding
    finally:
        access.write_text(ACCESS)
        server.sql("alter system reset ssl_ca_file")
        server.reload()


def test_without_a_client_the_server_and_its_certificate_are_looked_at(
    server: postgres.Server, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("awk", "bash", "cat", "cut", "date", "env", "grep", "head", "mktemp", "openssl"):
        (bare / name).symlink_to(f"/usr/bin/{name}")
    for name in ("rm", "sed", "sh", "timeout", "tr"):
        (bare / name).symlink_to(f"/usr/bin/{name}")
    ask = {"path": str(bare)}
    assert asked(server, tmp_path, **ask) == []
    assert asked(server, tmp_path, postgres_hosts=[f"127.0.0.1:{server.port}"], **ask) == []
    (finding,) = asked(server, tmp_path, postgres_hosts=["localhost:1"], **ask)
    assert "postgres_hosts: write where it listens" in finding
    stranger = {"postgres_ca_certificate": STRANGER["certificate"]}
    (finding,) = asked(server, tmp_path, **stranger, **ask)
    assert "postgres_ca_certificate: write" in finding
    (bare / "openssl").unlink()
    assert asked(server, tmp_path, **stranger, **ask) == []


@pytest.mark.parametrize(
    ("statement", "undo", "said"),
    [
        (
            'grant airflow to "airflow-dags"',
            'revoke airflow from "airflow-dags"',
            'revoke "airflow" from "airflow-dags"',
        ),
        (
            'alter role "airflow-dags" superuser',
            'alter role "airflow-dags" nosuperuser',
            'alter role "airflow-dags" nosuperuser',
        ),
        (
            "grant create on schema public to public",
            "revoke create on schema public from public",
            "revoke create on schema public from public",
        ),
        (
            "alter role airflow connection limit 10",
            "alter role airflow connection limit -1",
            "the role airflow allows 10 connections",
        ),
        (
            'alter role "airflow-dags" connection limit -1',
            'alter role "airflow-dags" connection limit 30',
            "the role airflow-dags may have all connections: the code of DAGs needs up to 30, and"
            " with more than 80 it could stop the scheduler. An admin should run `alter role"
            ' "airflow-dags" connection limit 30`',
        ),
        (
            "create table alembic_version (version_num text)",
            "drop table alembic_version",
            "is that of another Airflow: choose an empty one",
        ),
    ],
)
def test_what_an_admin_must_change_is_said(
    statement: str, undo: str, said: str, server: postgres.Server, tmp_path: Path
) -> None:
    server.sql(statement, "airflow")
    try:
        (finding,) = asked(server, tmp_path)
    finally:
        server.sql(undo, "airflow")
    assert said in finding


def test_settings_that_lock_the_role_out_are_for_the_admin(
    server: postgres.Server, tmp_path: Path
) -> None:
    """The code of DAGs may give its own role some."""
    own = 'alter role "airflow-dags" in database airflow {} local_preload_libraries{}'
    server.sql(f'set role "airflow-dags"; {own.format("set", "=nothing")}', "airflow")
    try:
        (finding,) = asked(server, tmp_path)
    finally:
        server.sql(own.format("reset", ""), "airflow")
    assert (
        "reached as airflow-dags: postgres_dags_login: its admin should run `alter role" in finding
    )
    assert "reset all` for this role" in finding


def test_a_host_takes_over_the_data_whose_key_it_has(
    server: postgres.Server, tmp_path: Path
) -> None:
    def put(path: str) -> None:
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("something\n")

    made = "create table alembic_version (version_num text);"
    made += (
        "create table job (job_type text, hostname text, state text, latest_heartbeat timestamptz);"
    )
    made += "alter table alembic_version owner to airflow; alter table job owner to airflow"
    server.sql(made, "airflow")
    try:
        put(f"{layout.SECRETS}/fernet-key")
        assert asked(server, tmp_path) == []
        # The code of DAGs can write rows of other kinds.
        for kind, name in (("TriggererJob", "made-up"), ("SchedulerJob", "old-host")):
            assert asked(server, tmp_path) == []
            server.sql(f"insert into job values ('{kind}', '{name}', 'running', now())", "airflow")
        (finding,) = asked(server, tmp_path)
        assert "the Airflow of old-host runs with the database" in finding
        put(layout.MIGRATED)  # it is this host's own
        (finding,) = asked(server, tmp_path)
        assert "the Airflow of old-host runs with the database" in finding and "as well" in finding
        server.sql(f"update job set hostname = '{socket.gethostname()}.example.com'", "airflow")
        assert asked(server, tmp_path) == []
    finally:
        server.sql("drop table alembic_version; drop table job", "airflow")
    # The data of this host is not there.
    (finding,) = asked(server, tmp_path)
    assert "this host's Airflow has data, and the database" in finding


def report(**answers: str) -> Report:
    """The answers of a good server, and others."""
    good = {"client": "15", "version": "150004", "owner": "team_owner", "encoding": "UTF8"}
    good |= {"clock": "1800000000", "time": "1800000000", "dags": "yes"}
    return Report({key: [value] for key, value in {**good, **answers}.items()})


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, None),
        ({"version": "140009"}, "is of PostgreSQL 14: at least 15 is needed"),
        ({"version": "170002"}, "can't back that up: give apt a source with postgresql-client-17"),
        ({"client": "17"}, None),
        (
            {"dags_limit": "29"},
            "the role team-dags may have 29 connections: the code of DAGs needs",
        ),
        ({"dags_limit": "80", "limit": "100 the server"}, None),
        ({"dags_limit": "81", "limit": "100 the server"}, "with more than 80 it could stop"),
        ({"encoding": "SQL_ASCII"}, "has the encoding SQL_ASCII: Airflow needs UTF8"),
        ({"clock": "1800000100"}, "is 100 s ahead of the host's"),
        ({"no_public": "yes"}, "create schema public"),
        ({"public_of": "postgres"}, "alter schema public owner to pg_database_owner"),
        ({"dags_missing": "yes"}, "has no role team-dags"),
        ({"refused_dags": "FATAL: the database system is starting up"}, "The answer was: FATAL"),
        (
            {"refused_owner": "session is read-only", "refused_dags": "session is read-only"},
            "name the primary",
        ),
    ],
)
def test_findings(answers: dict[str, str], said: str | None) -> None:
    settings = Settings.from_data(EXISTING_DATABASE)
    found = list(preflight.findings(settings, report(**answers)))
    assert len(found) == (1 if said else 0), found
    assert said is None or said in found[0]


def test_the_client_of_the_setting_is_installed_by_the_deploy() -> None:
    answers = report(version="170002")
    for version, count in ((16, 1), (17, 0)):
        settings = Settings.from_data({**EXISTING_DATABASE, "postgres_version": version})
        assert len(list(preflight.findings(settings, answers))) == count


def test_the_run_itself_asks_where_the_plan_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the deploy is planned, a bare host has no client."""
    reports = [Report({"no_client": ["yes"], "reached": ["db:5432"]}), report(owner="somebody")]
    monkeypatch.setattr(preflight, "answers", lambda settings: reports.pop(0))
    done = fake.run(preflight.ask, settings=fake.settings(EXISTING_DATABASE))
    assert done.did_error() and reports == []
    assert 'alter database "team" owner to "team_owner"' in done.stderr


# A backup and its restoration

NO_TABLES = """
create schema admins;
create function admins.refuse() returns event_trigger language plpgsql as
    $$ begin raise exception 'no more tables'; end $$;
create event trigger no_tables on ddl_command_start when tag in ('CREATE TABLE')
    execute function admins.refuse();
"""


@pytest.fixture
def host(server: postgres.Server, tmp_path: Path) -> Iterator[Host]:
    """A host whose Airflow has its data there."""
    settings = fake.settings(given(server))
    files = {"owner": tmp_path / "owner", "authority": tmp_path / "authority"}
    files["authority"].write_text(SERVER["certificate"])
    files["owner"].write_text(database.login_file(database.login(settings, layout.CONTROL_USER)))
    files["owner"].chmod(0o400)
    there = database.remote(settings, layout.CONTROL_USER, *map(str, files.values()))
    found = Host(tmp_path, server, settings, {"OWNER_CONNECTION": database.words(there)})
    make_tables_in(server)
    yield found
    server.sql(
        "drop schema public cascade; drop schema if exists deploy cascade; create schema public;"
        "alter schema public owner to pg_database_owner; grant usage on schema public to public",
        "airflow",
    )


def make_tables_in(server: postgres.Server) -> None:
    """Airflow's tables, in the database that the admin made."""
    fill_with_tables(server, "airflow")
    server.sql(
        "set role airflow; insert into alembic_version (version_num) values ('old head');"
        "insert into alembic_version_fab (version_num) values ('fab');"
        "create schema deploy; create table deploy.certificate (name text);"
        "insert into deploy.certificate values ('web')",
        "airflow",
    )


def test_a_backup_comes_back_into_the_same_database(host: Host) -> None:
    sql = host.server.sql
    host.migrated.write_text("3.3.2-4567 old head\n")
    # The owner can't read it, and Airflow has none.
    sql('set role "airflow-dags"; select lo_create(0)', "airflow")
    for _ in range(2):  # the second one is of a database that was restored
        made = host.call("airflow-backup")
        assert (made.returncode, made.stderr) == (0, ""), made.stderr
        sql("set role airflow; delete from alembic_version; create table since (id int)", "airflow")
        done = host.call("airflow-restore", made.stdout.strip())
        assert (done.returncode, done.stderr) == (0, "")
        assert sql("select version_num from alembic_version", "airflow") == "old head"
        assert sql("select to_regclass('since')", "airflow") == ""
        assert sql("select name from deploy.certificate", "airflow") == "web"
        owners = "select distinct tableowner from pg_tables where schemaname = 'public'"
        assert sql(owners, "airflow") == "airflow"
        for right, has in (("select", "t"), ("delete", "f")):
            ask = f"select has_table_privilege('airflow-dags', 'connection', '{right}')"
            assert sql(ask, "airflow") == has
        use = "select has_schema_privilege('airflow-dags', 'public', 'usage')"
        assert sql(use, "airflow") == "t"
        make = "select has_schema_privilege('airflow-dags', 'public', 'create')"
        assert sql(make, "airflow") == "f"


def test_a_backup_that_does_not_fit_changes_nothing(host: Host) -> None:
    host.migrated.write_text("3.3.2-4567 old head\n")
    made = host.call("airflow-backup").stdout.strip()
    # Somebody else's table, which the owner of the database may not drop alone.
    host.server.sql("create extension if not exists pg_trgm schema public", "airflow")
    try:
        done = host.call("airflow-restore", made)
        assert done.returncode == 1
        assert "let an admin run alter extension … set schema for pg_trgm" in done.stderr
    finally:
        host.server.sql("drop extension pg_trgm", "airflow")
    host.server.sql("delete from alembic_version", "airflow")
    host.server.sql(NO_TABLES, "airflow")
    try:
        done = host.call("airflow-restore", made)
    finally:
        host.server.sql("drop event trigger no_tables; drop schema admins cascade", "airflow")
    assert done.returncode == 1 and "PostgreSQL can't restore the dump" in done.stderr
    assert "nothing was changed" in done.stderr
    assert host.server.sql("select count(*) from alembic_version", "airflow") == "0"
    assert not list(host.migrated.parent.glob("restore-unfinished*"))
