"""Connections, variables, pools and users that the inventory names, in Airflow's database."""

from __future__ import annotations

from pydantic import SecretStr
from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.airflow import users
from tasks.layout import LIB, OBJECTS, RUN
from tasks.lib.operations import run_unless, secret_file
from tasks.settings import HostSettings
from tasks.settings.types import secret_json

PROGRAM = f"{LIB}/sync-objects.py"


def wanted(settings: HostSettings) -> SecretStr:
    """The objects of the inventory as JSON, with their secrets."""
    connections = {
        name: connection.model_dump(by_alias=True)
        for name, connection in settings.airflow.connections.items()
    }
    return secret_json(
        {
            "connections": connections,
            "variables": settings.airflow.variables,
            "pools": {name: pool.model_dump() for name, pool in settings.airflow.pools.items()},
        }
    )


def sync(settings: HostSettings) -> None:
    """The database has the inventory's objects. Objects that people made stay as they are."""
    _sync(settings)
    users.sync(settings)


@deploy("Objects")
def _sync(settings: HostSettings) -> None:
    if not (settings.airflow.connections or settings.airflow.variables or settings.airflow.pools):
        files.file(name=f"Remove {OBJECTS}", path=OBJECTS, present=False)
        return
    secret_file(name=f"Write {OBJECTS}", path=OBJECTS, content=wanted(settings))
    if not settings.is_first:
        return
    run_unless(
        name="Make connections, variables and pools as the inventory has them",
        test=f"{RUN} python {PROGRAM} check < {OBJECTS}",
        commands=[f"{RUN} python {PROGRAM} apply < {OBJECTS}"],
        already="they are the same",
    )
