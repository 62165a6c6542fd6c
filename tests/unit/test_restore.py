"""A backup is restored with a real PostgreSQL, which admits roles as the deploy's own does."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import wait_for
from tests.unit import fake, postgres, programs
from tests.unit.database_host import Host
from tests.unit.tables import make_tables

# Code that the owner of the database can leave in it, which runs when rows are restored.
TRAP = """
set role airflow;
create function who() returns boolean language plpgsql as $$ begin
    if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        alter role airflow superuser;
    end if;
    return true;
end $$;
create table trap (id int check (public.who()));
insert into trap values (1);
create function pg_database_size(text) returns bigint language plpgsql as $$ begin
    perform public.who();
    return 1;
end $$;
insert into alembic_version (version_num) values ('old head');
insert into alembic_version_fab (version_num) values ('fab');
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """One whose PostgreSQL admits the roles of the deploy's pg_hba.conf without a check."""
    access = fake.plan(fake.settings()).uploads["/etc/postgresql/15/main/pg_hba.conf"]
    with postgres.server() as server:
        server.sql('create role airflow login; create role "airflow-dags" login')
        make_tables(server, "airflow")
        server.sql(TRAP, "airflow")
        (server.folder / "data/pg_hba.conf").write_text(access.replace("peer", "trust"))
        server.reload()
        yield Host(tmp_path, server)


def test_an_older_backup_is_migrated_and_no_superuser_runs_its_code(host: Host) -> None:
    host.migrated.write_text("3.3.2-4567 old head\n")
    made = host.call("airflow-backup")
    assert (made.returncode, made.stderr) == (0, "")
    host.server.sql("delete from alembic_version; create table since (id int)", "airflow")
    host.migrated.write_text("3.3.2-4567 new head\n")
    done = host.call("airflow-restore", made.stdout.strip())
    assert (done.returncode, done.stderr) == (0, "")
    assert host.server.sql("select version_num from alembic_version", "airflow") == "new head"
    assert host.server.sql("select to_regclass('since')", "airflow") == ""
    assert host.server.sql("select count(*) from trap", "airflow") == "1"
    assert host.server.sql("select rolsuper from pg_roles where rolname = 'airflow'") == "f"
    owners = "select distinct tableowner from pg_tables where schemaname = 'public'"
    assert host.server.sql(owners, "airflow") == "airflow"
    # The code of DAGs has its rights, and reaches no other database.
    right = "select has_table_privilege('airflow-dags', 'dag', 'select')"
    assert host.server.sql(right, "airflow") == "t"
    assert host.server.sql("select datname from pg_database where datname like 'airflow%'") == (
        "airflow"
    )


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_restore_that_is_stopped_beside_the_database_leaves_nothing(
    number: signal.Signals, host: Host, tmp_path: Path
) -> None:
    host.migrated.write_text("3.3.2-4567 old head\n")
    made = host.call("airflow-backup").stdout.strip()
    # The server has work to do for it, and does not look whether its client is still there.
    busy = tmp_path / "bin/pg_restore"
    busy.write_text(f"""#!/bin/sh
PGHOST={host.server.folder} exec psql -XAtq airflow_new -c 'select pg_sleep(600)'
""")
    busy.chmod(0o755)
    asks = "select count(*) from pg_stat_activity where datname = 'airflow_new' and query ~ 'sleep'"
    # Whatever runs the tests may ignore some of them, as nohup does.
    command = ["env", "--default-signal", str(programs.BIN / "airflow-restore"), made]
    with subprocess.Popen(command, env=host.env, stderr=subprocess.PIPE, text=True) as restore:
        wait_for(lambda: host.server.sql(asks) == "1", 60, "it restores the dump")
        assert list(host.migrated.parent.glob("restore.*")), "the backup lies there"
        restore.send_signal(number)
        _, said = restore.communicate(timeout=60)
    assert (restore.returncode, said) == (128 + number, "")
    assert not list(host.migrated.parent.glob("restore*"))
    databases = "select datname from pg_database where datname like 'airflow%'"
    assert host.server.sql(databases) == "airflow"
    busy.unlink()  # and nothing holds the lock
    done = host.call("airflow-restore", made)
    assert (done.returncode, done.stderr) == (0, "")


KEY = "a" * 43 + "=", "b" * 43 + "="


def adopt(host: Host, key: str, dump: Path) -> subprocess.CompletedProcess[str]:
    """Make a backup of an Airflow that no deploy made."""
    (dump.parent / "key").write_text(f"{key}\n")
    return subprocess.run(
        [programs.LIB / "adopt.sh", dump.name, "key", "adopted.tar"],
        cwd=dump.parent,
        env=host.env,
        text=True,
        capture_output=True,
    )


@pytest.mark.parametrize("key", [KEY[0], ",".join(KEY)])
def test_the_database_of_another_airflow_is_taken_over_with_its_key(
    key: str, host: Host, tmp_path: Path
) -> None:
    dump = tmp_path / "theirs.dump"
    host.server.sql("update alembic_version set version_num = 'of Airflow 2'", "airflow")
    with dump.open("wb") as file:
        subprocess.run(
            ["pg_dump", "-Fc", "airflow"], env=host.server.environment, stdout=file, check=True
        )
    done = adopt(host, key, dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((tmp_path / "root/var/lib/airflow-deploy").glob("adopt.*"))
    assert (tmp_path / "adopted.tar").stat().st_mode & 0o777 == 0o600
    # What was here goes.
    host.server.sql("delete from alembic_version; truncate trap", "airflow")
    host.migrated.write_text("3.3.2-4567 new head\n")
    other = tmp_path / "root/etc/airflow/secrets/jwt-secret"
    other.write_text("stays")
    refused = host.call("airflow-restore", str(tmp_path / "adopted.tar"))
    assert refused.returncode == 1 and "--trust" in refused.stderr
    done = host.call("airflow-restore", "--trust", str(tmp_path / "adopted.tar"))
    assert (done.returncode, done.stderr) == (0, "")
    assert host.server.sql("select version_num from alembic_version", "airflow") == "new head"
    assert host.server.sql("select count(*) from trap", "airflow") == "1"
    secrets = tmp_path / "root/etc/airflow/secrets"
    assert (secrets / "fernet-key").read_text() == f"AIRFLOW__CORE__FERNET_KEY={key}\n"
    assert other.read_text() == "stays"


@pytest.mark.parametrize(
    ("key", "dump", "says"),
    [("short", "", "has no fernet key"), (KEY[0], "no dump", "is no dump of Airflow's database")],
)
def test_what_is_no_dump_or_no_key_is_no_airflow(
    key: str, dump: str, says: str, host: Host, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.dump"
    path.write_text(dump)
    if not dump:
        with path.open("wb") as file:
            subprocess.run(
                ["pg_dump", "-Fc", "airflow"], env=host.server.environment, stdout=file, check=True
            )
    done = adopt(host, key, path)
    assert done.returncode == 1 and says in done.stderr and key not in done.stderr
    assert not (tmp_path / "adopted.tar").exists()
