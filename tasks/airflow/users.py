"""Users and roles of the web page that the inventory names, in Airflow's database."""

from __future__ import annotations

from pydantic import SecretStr
from pyinfra.api import deploy

from tasks.layout import LIB, USERS
from tasks.lib import members
from tasks.lib.operations import ensure, run_unless, secret_file
from tasks.settings import HostSettings
from tasks.settings.types import secret_json

PROGRAM = "users.py"


def wanted(settings: HostSettings) -> SecretStr:
    """Users and roles of the inventory as JSON, with their passwords."""
    users = {name: user.model_dump() for name, user in settings.web.users.items()}
    return secret_json({"roles": settings.web.roles, "users": users})


@deploy("Users")
def sync(settings: HostSettings) -> None:
    """The web page has the inventory's users and roles. Those that people made stay as they are."""
    if settings.is_first:
        _sync(settings)
    if settings.members:
        # Another host may become the first one: it needs the list of made users and their
        # passwords.
        members.copy_from_first(name="Copy the first host's record of users", kind="users")


def _sync(settings: HostSettings) -> None:
    if not (settings.web.users or settings.web.roles):
        empty = '{"roles": {}, "users": {}}'
        run_unless(
            name="Remove the users of an earlier inventory",
            test=f"test ! -e {USERS}",
            commands=[f"echo '{empty}' > {USERS}", f"{LIB}/{PROGRAM} apply", f"rm {USERS}"],
            already="there was none",
        )
        return
    secret_file(name=f"Write {USERS}", path=USERS, content=wanted(settings))
    ensure(
        name="Make users and roles as the inventory has them",
        program=PROGRAM,
        already="they are the same",
    )
