"""The schema of Airflow's database, and the web page's first user in it."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks import layout
from tasks.host import postgres
from tasks.lib.operations import ensure
from tasks.settings import HostSettings


@deploy("Airflow")
def migrate(settings: HostSettings) -> None:
    """The database has this version's schema, the rights on it, and the web page's first user."""
    if settings.is_first:
        _migrate(settings)
    if settings.members:
        ensure(
            name="Record the schema that the first host has made",
            program="migrate.sh",
            args=[settings.venv_key, "elsewhere"],
            already="it is this version's",
        )


def _migrate(settings: HostSettings) -> None:
    ensure(
        name="Migrate the database's schema (about 10 s)",
        program="migrate.sh",
        args=[settings.venv_key],
        already="the schema is this version's",
    )
    postgres.give_rights(settings)
    ensure(
        name=f"Create the web page's user {settings.web.admin_user}",
        program="user.sh",
        args=[settings.web.admin_user, "Admin", layout.ADMIN_PASSWORD, layout.USERS_MADE],
        already="the user exists, or somebody deleted it",
    )
    if settings.airflow.smoke_test:
        ensure(
            name=f"Make the smoke test's user {layout.SMOKE_TEST_USER}, as the test needs it",
            program="user.sh",
            # A role that can start a DAG and read its log, and no more.
            args=[layout.SMOKE_TEST_USER, "User", layout.SMOKE_TEST_PASSWORD],
            already="the user is as the test needs it",
        )
