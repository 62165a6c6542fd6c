"""PostgreSQL from Debian: a database of Airflow's own, reached over the socket only.

The control plane's role owns it; the processes that run DAGs' code have another one, with fewer
rights.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import postgres, systemd

from tasks.layout import ACCEPT, CONTROL_USER, DAGS_USER, DATABASE, ORIGINAL
from tasks.lib import whole_file
from tasks.lib.operations import ensure, run_unless
from tasks.settings import HostSettings

GRANTS = "/usr/local/lib/airflow/grants.sql"


@deploy("PostgreSQL")
def configure(settings: HostSettings) -> None:
    """PostgreSQL runs with an empty or grown database airflow, which the role airflow owns."""
    directory = f"/etc/postgresql/{settings.postgres.version}/main"
    config, access = f"{directory}/conf.d/airflow.conf", f"{directory}/pg_hba.conf"
    whole_file.template(
        name="Write PostgreSQL's conf.d/airflow.conf",
        src="files/etc/postgresql/conf.d/airflow.conf.j2",
        dest=config,
        user="postgres",
        group="postgres",
        mode="640",
        accept=[ACCEPT, "postgres"],
        settings=settings,
    )
    run_unless(
        name="Keep PostgreSQL's own pg_hba.conf",
        test=f"test -e {access}{ORIGINAL}",
        commands=[
            f"cp -p {access} {access}{ORIGINAL}.new",
            f"mv {access}{ORIGINAL}.new {access}{ORIGINAL}",
        ],
        already="it was kept before",
    )
    whole_file.template(
        name="Write pg_hba.conf",
        src="files/etc/postgresql/pg_hba.conf.j2",
        dest=access,
        user="postgres",
        group="postgres",
        mode="600",
        accept=[ACCEPT, "keep"],
        database=DATABASE,
        users=(CONTROL_USER, DAGS_USER),
    )
    systemd.service(name="Run PostgreSQL", service="postgresql", running=True, enabled=True)
    ensure(
        name="Make PostgreSQL load its configuration",
        program="postgres.sh",
        args=[str(settings.postgres.version)],
        already="PostgreSQL runs with its files as they are",
    )
    for role in (CONTROL_USER, DAGS_USER):
        postgres.role(name=f"Create role {role}", role=role, _su_user="postgres")
    postgres.database(
        name="Create database airflow",
        database=DATABASE,
        owner=DATABASE,
        template="template0",
        encoding="UTF8",
        lc_collate="C.UTF-8",
        lc_ctype="C.UTF-8",
        _su_user="postgres",
    )


def grant(database: str = DATABASE, *, missing: bool = False) -> str:
    """Shell command that gives DAGs' code its rights, or only prints the missing commands."""
    end = ";" if missing else r"\gexec"
    return (
        f"{{ cat {GRANTS}; echo '{end}'; }}"
        f" | runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 {database}"
    )


def give_rights() -> None:
    """The processes that run DAGs' code have the rights that they need, and no more."""
    run_unless(
        name=f"Give the role {DAGS_USER} its rights",
        test=f'missing=$({grant(missing=True)}) && test -z "$missing"',
        commands=[grant()],
        already="it has them, and no others",
    )
