"""A backup is restored with a real PostgreSQL, which admits roles as the deploy's own does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tasks.settings import HostSettings
from tests.unit import fake, postgres, programs
from tests.unit.test_grants import make_tables

# Linux users are roles of PostgreSQL: these stand-ins make a role of the user.
PROGRAMS = {
    "id": "echo 0",
    "runuser": 'user=$2; shift 3; PGUSER=$user exec "$@"',
    "setpriv": 'user=${1#*=}; shift 3; PGUSER=$user exec "$@"',
    "df": "echo Avail; echo 1000000000",
    "systemctl": ":",
    "curl": 'for each in metadatabase scheduler dag_processor triggerer; do printf \'"%s":'
    '{"status":"healthy"}\' $each; done',
}
# Airflow's migration: it reaches the given database, as the user that runs it.
AIRFLOW = """#!/bin/sh
database=${AIRFLOW__DATABASE__SQL_ALCHEMY_CONN##*///}
exec psql -XAtq -v ON_ERROR_STOP=1 "${database%%\\?*}" -c "
    update alembic_version set version_num = 'new head'; alter table dag add column added text"
"""
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
insert into alembic_version (version_num) values ('old head');
insert into alembic_version_fab (version_num) values ('fab');
"""


class Host:
    """A folder that stands for a host, with a PostgreSQL that runs."""

    def __init__(
        self,
        folder: Path,
        server: postgres.Server,
        settings: HostSettings | None = None,
        values: Mapping[str, str] | None = None,
    ) -> None:
        self.server = server
        self.env = programs.host_env(folder, settings or fake.settings(), values)
        (folder / "bin").mkdir()
        for name, script in PROGRAMS.items():
            path = folder / "bin" / name
            # The programs drop variables of their caller, such as the place of a PostgreSQL.
            path.write_text(f"#!/bin/sh\nexport PGHOST={server.folder} PGUSER=postgres\n{script}\n")
            path.chmod(0o755)
        root = folder / "root"
        texts = {
            "etc/airflow/secrets/fernet-key": "KEY=1\n",
            "etc/airflow/pod_template.yaml": "image: localhost/worker:1\n",
            "etc/systemd/system/airflow.target": "",
            "usr/local/bin/airflow": "",
            "var/lib/airflow-deploy/programs": "",
            "var/lib/airflow-deploy/units": "",
            "var/lib/airflow-deploy/backup-key": "0123\n",
            "usr/local/lib/airflow/run": "",
            "opt/airflow/venvs/3.3.2-4567/bin/airflow": AIRFLOW,
        }
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (root / "opt/airflow/venvs/3.3.2-4567/bin/airflow").chmod(0o755)
        (root / "opt/airflow/venv").symlink_to(root / "opt/airflow/venvs/3.3.2-4567")
        for name in ("run/lock", "var/lib/airflow", "var/lib/airflow-deploy"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.migrated = root / "var/lib/airflow-deploy/migrated"
        search = f"{folder}/bin:{server.environment['PATH']}"
        self.env |= server.environment | {"PATH": search}

    def call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the commands."""
        return subprocess.run(
            [programs.BIN / program, *arguments], env=self.env, text=True, capture_output=True
        )


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """One whose PostgreSQL admits the roles of the deploy's pg_hba.conf without a check."""
    access = fake.plan(fake.settings()).uploads["/etc/postgresql/15/main/pg_hba.conf"]
    with postgres.server() as server:
        server.sql('create role airflow login; create role "airflow-dags" login')
        make_tables(server, "airflow")
        server.sql(TRAP, "airflow")
        (server.folder / "data/pg_hba.conf").write_text(access.replace("peer", "trust"))
        server.sql("select pg_reload_conf()")
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
