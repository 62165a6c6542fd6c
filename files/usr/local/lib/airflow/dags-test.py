"""dags-test.py CONNECTION AIRFLOW WORD...: run `airflow dags test` or `airflow tasks test`, in a
database of its own. Written by the deploy of Airflow; run starts it as the user of DAGs' code.

That user must not write runs and tasks into Airflow's database, since the scheduler, which has the
keys, acts on them. So a test has an empty database with the connections, the variables and the
pools of Airflow's own, which psql reaches with the variables CONNECTION. It is deleted when the
test ends.
"""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from typing import Any

from lib import fail, usage

TABLES = ("connection", "variable", "slot_pool")


def rows(connection: str, table: str) -> list[dict[str, Any]]:
    """The rows of a table of Airflow's database; values in them are encrypted."""
    query = f"select coalesce(json_agg(each), '[]') from public.{table} as each"
    done = subprocess.run(
        ["psql", "-XAtqc", query],
        env={**os.environ, **dict(word.split("=", 1) for word in connection.split())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def copy(connection: str, path: str) -> None:
    """Give a test's database the rows that DAGs find in Airflow's own."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for table in TABLES:
            database.execute(f"delete from {table}")
            for row in rows(connection, table):
                names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
                database.execute(
                    f"insert into {table} ({names}) values ({marks})", tuple(row.values())
                )


def test(connection: str, airflow: str, words: list[str], folder: str) -> int:
    """Run the command; returns its exit code."""
    path = f"{folder}/airflow.db"
    environment = {
        **os.environ,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{path}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"sqlite+aiosqlite:///{path}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{folder}/logs",
    }
    made = subprocess.run(
        [airflow, "db", "migrate"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode:
        print(made.stdout, file=sys.stderr)
        return made.returncode
    copy(connection, path)
    return subprocess.run([airflow, *words], env=environment).returncode


def main() -> None:
    """Run the command in a folder that goes in the end, and end with its exit code."""
    if len(sys.argv) < 5:
        usage()
    if any(word.startswith("--use-e") for word in sys.argv[4:]):
        fail("airflow: a test runs its tasks one after the other, here: leave --use-executor out")
    with (
        tempfile.TemporaryDirectory(prefix="dags-test-") as folder,
        contextlib.suppress(KeyboardInterrupt),
    ):
        sys.exit(test(sys.argv[1], sys.argv[2], sys.argv[3:], folder))
    sys.exit(130)


if __name__ == "__main__":
    main()
