"""PostgreSQL from Debian: a database of Airflow's own, reached over the socket only.

Its owner is the control plane's role; what runs DAGs' code has another one, with less rights.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files, postgres, systemd

from tasks.layout import CONTROL_USER, DAGS_USER, DATABASE, ORIGINAL
from tasks.lib.operations import settled
from tasks.settings import HostSettings

PSQL = "runuser -u postgres -- psql -XAtqc"
GRANTS = "/usr/local/lib/airflow/grants.sql"

# A cluster loads its files when it starts or is told to, and a few options wait for a restart. The
# cluster itself knows both: when it loaded its files, and whether an option waits.
LOADED = (
    f'{PSQL} "select extract(epoch from pg_conf_load_time()) >'
    ' $(stat -c %.6Y {files} | sort -n | tail -n 1)" | grep -qx t'
)
NOTHING_WAITS = f"{PSQL} 'select count(*) from pg_settings where pending_restart' | grep -qx 0"


@deploy("PostgreSQL")
def configure(settings: HostSettings) -> None:
    """PostgreSQL runs with an empty or grown database airflow, which the role airflow owns."""
    directory = f"/etc/postgresql/{settings.postgres.version}/main"
    unit = f"postgresql@{settings.postgres.version}-main"
    config, access = f"{directory}/conf.d/airflow.conf", f"{directory}/pg_hba.conf"
    files.template(
        name="Write PostgreSQL's conf.d/airflow.conf",
        src="files/etc/postgresql/conf.d/airflow.conf.j2",
        dest=config,
        user="postgres",
        group="postgres",
        mode="640",
        settings=settings,
    )
    settled(
        name="Keep PostgreSQL's own pg_hba.conf",
        test=f"test -e {access}{ORIGINAL}",
        commands=[
            f"cp -p {access} {access}{ORIGINAL}.new && mv {access}{ORIGINAL}.new {access}{ORIGINAL}"
        ],
        because="it was kept before",
    )
    files.template(
        name="Write pg_hba.conf",
        src="files/etc/postgresql/pg_hba.conf.j2",
        dest=access,
        user="postgres",
        group="postgres",
        mode="600",
        database=DATABASE,
        users=(CONTROL_USER, DAGS_USER),
    )
    systemd.service(name="Run PostgreSQL", service="postgresql", running=True, enabled=True)
    loaded = LOADED.format(files=f"{config} {access}")
    settled(
        name="Make PostgreSQL load its configuration",
        test=f"{loaded} && {NOTHING_WAITS}",
        commands=[
            f"systemctl reload-or-restart {unit}",
            # A reload is asynchronous; its end is seen, for at most 10 s. Only options that can't
            # be reloaded need the restart that follows.
            f"for i in $(seq 100); do {loaded} && break; sleep 0.1; done;"
            f" {NOTHING_WAITS} || systemctl restart {unit}",
        ],
        because="PostgreSQL runs with its files as they are",
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
    """Shell command that gives DAGs' code its rights, or just prints what there is to be done."""
    end = ";" if missing else r"\gexec"
    return (
        f"{{ cat {GRANTS}; echo '{end}'; }}"
        f" | runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 {database}"
    )


def give_rights() -> None:
    """What runs DAGs' code may do in the database what it has to, and no more."""
    files.put(name="Write the rights of DAGs' code", src=f"files{GRANTS}", dest=GRANTS, mode="644")
    settled(
        name=f"Give the role {DAGS_USER} its rights",
        test=f'missing=$({grant(missing=True)}) && test -z "$missing"',
        commands=[grant()],
        because="it has them, and no others",
    )
