"""Airflow's keys, and the password of the web page's first user."""

from __future__ import annotations

import shlex

from tasks.layout import (
    CLI,
    SECRETS,
)
from tasks.lib.operations import settled

# One file a secret, so that each unit is given just those that it needs. Each is a line
# NAME=value; the Python expression makes the value.
FILES = {
    "fernet-key": (
        "AIRFLOW__CORE__FERNET_KEY",
        "base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()",
    ),
    "jwt-secret": ("AIRFLOW__API_AUTH__JWT_SECRET", "secrets.token_urlsafe(64)"),
    "api-secret-key": ("AIRFLOW__API__SECRET_KEY", "secrets.token_urlsafe(48)"),
}


NEW_PASSWORD = "secrets.token_urlsafe(18)"


def create() -> None:
    """Each secret has its file."""
    paths = {f"{SECRETS}/{name}": make for name, make in commands().items()}
    settled(
        name="Make the secrets that are missing",
        test=" && ".join(f"test -s {path}" for path in paths),
        commands=[
            f"umask 077; test -s {path} || {{ {make} > {path}.new && mv {path}.new {path}; }}"
            for path, make in paths.items()
        ],
        because="all secrets were made before",
    )


def commands() -> dict[str, str]:
    """Shell commands, by the secret's name, that print a new one as its file is to hold it."""
    lines = {name: (f"{variable}=", value) for name, (variable, value) in FILES.items()}
    lines["admin-password"] = ("", NEW_PASSWORD)
    return {
        name: "python3 -c " + shlex.quote(f"import base64, secrets; print({prefix!r} + {value})")
        for name, (prefix, value) in lines.items()
    }


def with_password(path: str, command: str) -> str:
    """Shell command that gives the password in a file to a command of Airflow's, which asks twice.

    It is to come from the file, not from arguments that every user of the host can see; setsid
    takes away the terminal that the command would else ask on.
    """
    return f"cat {path} {path} | setsid --wait {CLI} {command}"
