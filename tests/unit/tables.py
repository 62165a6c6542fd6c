"""All tables of Airflow and its login, in a database of a test, each column of the type text."""

from __future__ import annotations

from pathlib import Path

from tests.unit import postgres

TABLES: dict[str, list[str]] = {
    words[0]: words[1:]
    for line in (Path(__file__).parent / "airflow_tables.txt").read_text().splitlines()
    if (words := line.split()) and words[0] != "#"
}
# The login's sequences belong to no column.
LOOSE = ("ab_", "session")


def make_tables(server: postgres.Server, database: str, owner: str = "airflow") -> None:
    """A database of the owner with all tables."""
    server.sql(f"create database {database} owner {owner} template template0")
    fill_with_tables(server, database, owner)


def fill_with_tables(server: postgres.Server, database: str, owner: str = "airflow") -> None:
    """All tables in an empty database, each column of the type text."""
    made = [f"set role {owner};"]
    for table, columns in TABLES.items():
        names = [f'"{column.rstrip("*")}" text' for column in columns]
        made.append(f"create table {table} ({', '.join(names)});")
        if "id*" in columns:
            owned = "" if table.startswith(LOOSE) else f" owned by {table}.id"
            made.append(f"create sequence {table}_id_seq{owned};")
    server.sql("\n".join(made), database)
