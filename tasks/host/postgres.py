"""PostgreSQL: Debian's, or an existing one, where an admin made the database and the roles.

Debian's has a database that is reached over the socket only. On a host of its own, Airflow's hosts
reach it over TLS, and nobody else.

The control plane's role owns the database; the processes that run DAGs' code have another one, with
fewer rights.
"""

from __future__ import annotations

from io import StringIO
from ipaddress import ip_address

from pydantic import SecretStr
from pyinfra.api import deploy
from pyinfra.operations import systemd

from tasks.host import database, tls
from tasks.layout import (
    ACCEPT,
    CONTROL_USER,
    DAGS_USER,
    DATABASE,
    DATABASE_AUTHORITY,
    DATABASE_CERTIFICATE,
    DATABASE_LOGINS,
    METRICS_USER,
    ORIGINAL,
    POSTGRES_DROP_IN,
    TLS,
)
from tasks.lib import groups, whole_file
from tasks.lib.operations import ensure, run_unless, secret_file
from tasks.settings import HostSettings


@deploy("PostgreSQL")
def configure(settings: HostSettings) -> None:
    """This host has Airflow's database, empty or with data, unless it is elsewhere."""
    if settings.postgres.is_debians:
        _run(settings)
        _make_roles(settings)


@deploy("PostgreSQL")
def log_in(settings: HostSettings) -> None:
    """The host has the logins to a database elsewhere."""
    if settings.database_host:
        _copy_logins(settings)
    else:
        _write_logins(settings)
    if authority := settings.postgres.ca_certificate:
        whole_file.put(
            name="Write the CA of the database",
            src=StringIO(authority),
            dest=DATABASE_AUTHORITY,
            mode="644",
        )


def _copy_logins(settings: HostSettings) -> None:
    for part, (user, path) in zip(("owner", "dags"), DATABASE_LOGINS.items(), strict=True):
        groups.copied_file(
            name=f"Copy the login of {user}",
            group="database",
            part=part,
            path=path,
            user=user,
            mode="400",
        )
    if database.has_own_authority(settings):
        groups.copied_file(
            name="Copy the CA of the database",
            group="database",
            part="authority",
            path=DATABASE_AUTHORITY,
            user="root",
            mode="644",
        )


def _write_logins(settings: HostSettings) -> None:
    for user, path in DATABASE_LOGINS.items():
        secret_file(
            name=f"Write the login of {user}",
            path=path,
            content=SecretStr(database.login_file(database.login(settings, user))),
            user=user,
            # libpq refuses a key that a group may read, unless root owns the file.
            mode="400",
        )


def _run(settings: HostSettings) -> None:
    """PostgreSQL runs with its configuration."""
    directory = f"/etc/postgresql/{settings.postgres.version}/main"
    config, access = f"{directory}/conf.d/airflow.conf", f"{directory}/pg_hba.conf"
    ensure(
        name="Create the PostgreSQL cluster",
        program="postgres-cluster.sh",
        args=[str(settings.postgres.version), str(settings.postgres_port)],
        already="it is there, on its port",
    )
    if settings.database_clients:
        _certify(settings)
    whole_file.template(
        name="Write PostgreSQL's conf.d/airflow.conf",
        src="files/etc/postgresql/conf.d/airflow.conf.j2",
        dest=config,
        user="postgres",
        group="postgres",
        mode="640",
        accept=[ACCEPT, "postgres"],
        settings=settings,
        connections=max(100, database.connections(len(settings.database_clients))),
        certificate=DATABASE_CERTIFICATE.replace("*", str(settings.postgres.version)),
    )
    run_unless(
        name="Keep PostgreSQL's own pg_hba.conf",
        test=f"test -e {access}{ORIGINAL}",
        commands=[
            f"cp -p {access} {access}{ORIGINAL}.new",
            # pg_upgradecluster copies the deploy's own; the older cluster has the original.
            rf"find /etc/postgresql -name '*{ORIGINAL}' -exec cp -p {{}} {access}{ORIGINAL}.new \;",
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
        users=_users_of_host(settings),
        clients=[f"{each}/{ip_address(each).max_prefixlen}" for each in settings.database_clients],
        roles=(CONTROL_USER, DAGS_USER),
        database=DATABASE,
    )
    _start_again(settings)
    systemd.service(
        name="Start and enable PostgreSQL", service="postgresql", running=True, enabled=True
    )
    ensure(
        name="Make PostgreSQL load its configuration",
        program="postgres.sh",
        args=[str(settings.postgres.version)],
        already="PostgreSQL runs with its files as they are",
    )


def _make_roles(settings: HostSettings) -> None:
    """PostgreSQL has the database airflow, which the role airflow owns, and the other roles."""
    most = str(database.connections_of_dags(len(settings.database_clients)))
    made = [("role", CONTROL_USER), ("role", DAGS_USER, most), ("database", DATABASE)]
    if settings.metrics.port:
        made.append(("role", METRICS_USER))
    for kind, name, *limit in made:
        ensure(
            name=f"Create {kind} {name}",
            program="postgres-make.sh",
            args=[kind, name, *limit],
            already="it is there",
        )
    if settings.metrics.port:
        _let_the_exporter_ask()
    if settings.database_clients:
        ensure(
            name="Give both roles their passwords",
            program="database-logins.py",
            already="they have those that are in their files",
        )


def _users_of_host(settings: HostSettings) -> dict[str, list[str]]:
    """The databases of each Linux user of the host."""
    exporter = {METRICS_USER: [DATABASE]} if settings.metrics.port else {}
    if settings.database_clients:
        return exporter
    # The owner also restores a backup, beside the database in use.
    return {CONTROL_USER: [DATABASE, f"{DATABASE}_new"], DAGS_USER: [DATABASE], **exporter}


def _certify(settings: HostSettings) -> None:
    """PostgreSQL has a certificate of an authority of its own, or the one of the inventory."""
    if given := settings.postgres.certificate:
        tls.remind(given.end, "PostgreSQL's certificate", "postgres_certificate")
        both = f"{given.certificate.rstrip()}\n{given.key.get_secret_value()}"
        secret_file(
            name="Write PostgreSQL's certificate",
            path=DATABASE_CERTIFICATE.replace("*", str(settings.postgres.version)),
            content=SecretStr(both),
            user="postgres",
            group="postgres",
        )
        return
    ensure(
        name="Create PostgreSQL's certificate",
        program="postgres-certificate.sh",
        args=[
            *(str(settings.postgres.version), TLS),
            *(name for name, _ in settings.postgres.servers),
        ],
        already="it is of a CA of its own, for all names of the host",
    )


def _start_again(settings: HostSettings) -> None:
    """systemd restarts a PostgreSQL that ended by itself."""
    unit = f"postgresql@{settings.postgres.version}-main.service"
    whole_file.put(
        name="Write PostgreSQL's drop-in",
        src="files/etc/systemd/system/postgresql@.service.d/airflow.conf",
        dest=POSTGRES_DROP_IN.replace("*", str(settings.postgres.version)),
        mode="644",
    )
    run_unless(
        name="Make systemd load PostgreSQL's unit",
        test=f'test "$(systemctl show -P NeedDaemonReload {unit})" = no',
        commands=["systemctl daemon-reload"],
        already="systemd has read it as it is on the disk",
    )


def _let_the_exporter_ask() -> None:
    """The exporter has a role that sees PostgreSQL's own figures; grants.sql gives it Airflow's."""
    ask = f"select pg_has_role('{METRICS_USER}', 'pg_monitor', 'member')"
    run_unless(
        name="Let the exporter read PostgreSQL's statistics",
        test=f'test "$(runuser -u postgres -- psql -XAtqc "{ask}")" = t',
        commands=[f'runuser -u postgres -- psql -Xqc "grant pg_monitor to {METRICS_USER}"'],
        already="it does",
    )


def give_rights(settings: HostSettings) -> None:
    """The processes that run DAGs' code have the rights that they need, and no more."""
    ensure(
        name=f"Give the role {database.role(settings, DAGS_USER)} its rights",
        program="grants.sh",
        already="it has them, and no others",
    )
