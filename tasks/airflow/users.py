"""Users and roles of the web page that the inventory names, in Airflow's database."""

from __future__ import annotations

import json
from typing import Any

from pydantic import SecretStr
from pyinfra.api import deploy

from tasks.layout import LIB, USERS
from tasks.lib import members
from tasks.lib.operations import ensure, run_unless, secret_file
from tasks.settings import HostSettings

PROGRAM = "users.py"


def wanted(settings: HostSettings) -> SecretStr:
    """All of them as JSON, with the passwords in it."""
    users = {name: user.model_dump() for name, user in settings.web.users.items()}
    text = json.dumps({"roles": settings.web.roles, "users": users}, default=_reveal, indent=1)
    return SecretStr(text)


def _reveal(value: Any) -> str:
    return str(value.get_secret_value())


@deploy("Users")
def sync(settings: HostSettings) -> None:
    """The web page has those of the inventory. Those that people made by hand stay as they are."""
    if settings.is_first:
        _sync(settings)
    if settings.members:
        # Whichever host is the first one later knows who was made, and has the passwords.
        members.copy_from_first(name="Copy what the first host knows of users", kind="users")


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
