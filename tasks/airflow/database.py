"""The schema of Airflow's database, and the web page's first user in it."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.airflow.secrets import with_password
from tasks.host import postgres
from tasks.layout import (
    ADMIN_PASSWORD,
    CLI,
    DATABASE,
    MIGRATED,
)
from tasks.lib.operations import settled
from tasks.settings import HostSettings


def url(driver: str, database: str = DATABASE) -> str:
    """Where a driver finds a database: over the socket, as the user that it runs as."""
    return f"postgresql+{driver}:///{database}?host=/var/run/postgresql"


@deploy("Airflow")
def migrate(settings: HostSettings) -> None:
    """The database has this version's schema, the rights on it, and the web page's first user."""
    _migrate(settings)
    postgres.give_rights()
    _create_admin(settings)


def _migrate(settings: HostSettings) -> None:
    heads = (
        f"runuser -u postgres -- psql -XAtqd airflow -c \"select '{settings.venv_key} '"
        " || a.version_num || ' ' || f.version_num"
        ' from alembic_version a, alembic_version_fab f"'
    )
    settled(
        name="Migrate the database's schema (about 10 s)",
        test=f"test -s {MIGRATED} && {heads} | cmp -s - {MIGRATED}",
        commands=[
            f"{CLI} db migrate >/dev/null",
            f"{heads} > {MIGRATED}.new && mv {MIGRATED}.new {MIGRATED}",
        ],
        because="the schema is this version's",
    )


def _create_admin(settings: HostSettings) -> None:
    user = settings.web.admin_user
    settled(
        name=f"Create the web page's user {user}",
        test="runuser -u postgres -- psql -XAtqd airflow -c"
        f" \"select 1 from ab_user where username = '{user}'\" | grep -q 1",
        commands=[
            with_password(
                ADMIN_PASSWORD,
                f"users create --username {user} --role Admin --email {user}@localhost"
                f" --firstname {user} --lastname Airflow >/dev/null",
            )
        ],
        because="the user exists",
    )
