"""Data that people would miss if the database lost it, and how the tests look at it."""

from __future__ import annotations

import json
from secrets import token_urlsafe
from typing import Any

from tests.e2e.conftest import Shell

PSQL = "cd / && runuser -u postgres -- psql -XAtqd airflow -c"
SECRET = token_urlsafe(16)


def connection(name: str) -> dict[str, Any]:
    """A connection with a password."""
    return {"connection_id": name, "conn_type": "http", "password": SECRET}


def decrypted(shell: Shell, name: str) -> str:
    """Its password, as Airflow reads it."""
    (found,) = json.loads(shell(f"airflow connections get {name} -o json"))
    return str(found["password"])


def counts(shell: Shell) -> str:
    """How many rows the tables have that people would miss; those of smoke tests nobody would."""
    tables = ("connection", "ab_user", "slot_pool", "dag_run", "task_instance")
    rows = [f"(select count(*) from {table})" for table in tables]
    rows[-2:] = [row[:-1] + " where dag_id <> 'airflow_smoke_test')" for row in rows[-2:]]
    joined = " || ' ' || ".join(rows)
    return shell(f'{PSQL} "select {joined}"')
