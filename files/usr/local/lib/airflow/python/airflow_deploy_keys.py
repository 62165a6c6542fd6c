"""Data that no fernet key reads keeps no key from being replaced.

Airflow 3.3.2 encrypts all data again in one transaction, and the first text that no key reads ends
it: both keys stay in use, and the error does not say which text it was. An admin's restore may
leave one among connections and variables; Airflow can't even load such a connection. A task sends
the arguments of its trigger to the Execution API: Airflow stores an object as plain JSON, and a
text as it is.

So such a text stays as it is, and the command says which one it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from airflow_deploy_imports import replace, when_imported

COMMAND = "airflow.cli.commands.rotate_fernet_key_command"
# By table: the column by which people know a row, and those with texts, each with the column that
# says whether it is encrypted. Without one it is, unless it is JSON.
TABLES = {
    "connection": ("conn_id", {"password": "is_encrypted", "extra": "is_extra_encrypted"}),
    "connection_test_request": (
        "connection_id",
        {"password": "is_encrypted", "extra": "is_extra_encrypted"},
    ),
    "variable": ("key", {"val": "is_encrypted"}),
    "trigger": ("id", {"kwargs": ""}),
}
OF_PEOPLE = ("connection", "variable")  # the others go by themselves


def say(table: str, row: int, name: object, column: str) -> None:
    """Name a text. airflow-rotate does not show the standard output, which has the log."""
    cure = (
        " If nobody has its key, delete it, and set it again: sudo"
        f" /usr/local/lib/airflow/owner.sh psql -c 'delete from {table} where id = {row}'"
    )
    said = f"No key reads {column} of the {table} {name!r}: it stays as it is."
    print(said + (cure if table in OF_PEOPLE else ""), file=sys.stderr)


def rotate_items_in_batches(own: Callable[..., None]) -> Callable[..., None]:
    """Encrypt each text of a table again, if a key reads it and nobody has changed it meanwhile."""

    def replaced(
        session: Any, model_class: Any, filter_condition: Any = None, batch_size: int = 100
    ) -> None:
        # Here, since few processes replace a key.
        from airflow.models.crypto import get_fernet
        from cryptography.fernet import InvalidToken
        from sqlalchemy import text

        table = model_class.__tablename__
        if table not in TABLES:
            own(session, model_class, filter_condition, batch_size)
            return
        known_as, texts = TABLES[table]
        for column, flag in texts.items():
            # Without the model, which would read the password of each connection.
            asked = f'select id, "{known_as}", "{column}" from "{table}"'
            asked += f' where "{flag}"' if flag else ""
            for row, name, old in list(session.execute(text(asked))):
                if not old or (not flag and old.startswith("{")):
                    continue
                try:
                    new = get_fernet().rotate(old.encode()).decode()
                except InvalidToken:
                    say(table, row, name, column)
                    continue
                # A process that changed it meanwhile has encrypted it with the new key.
                changed = f'update "{table}" set "{column}" = :new where id = :id'
                changed += f' and "{column}" = :old'
                session.execute(text(changed), {"new": new, "old": old, "id": row})

    return replaced


def change(module: Any) -> None:
    """Let a key be replaced."""
    parameters = "session model_class filter_condition batch_size"
    harm = "Data that no key reads keeps the fernet key from being replaced"
    name = "rotate_items_in_batches"
    replace(module, name, parameters, rotate_items_in_batches, harm)


def install() -> None:
    """Wait for the module of the command."""
    when_imported(COMMAND, change)
