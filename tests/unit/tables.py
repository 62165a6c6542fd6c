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


def kind(table: str, column: str) -> str:
    """The type of a column."""
    if column == "next_kwargs":
        return "json"
    numbers = column == "id*" or (table.startswith("ab_") and column.endswith("_id"))
    return "bigint" if numbers else "text"


def fill_with_tables(server: postgres.Server, database: str, owner: str = "airflow") -> None:
    """All tables in an empty database. Columns have the type text, but for some that the guard of
    rows looks at."""
    made = [f"set role {owner};"]
    for table, columns in TABLES.items():
        names = [f'"{name.rstrip("*")}" {kind(table, name)}' for name in columns]
        made.append(f"create table {table} ({', '.join(names)});")
        if "id*" not in columns:
            continue
        made.append(f"create sequence {table}_id_seq;")
        if not table.startswith(LOOSE):
            made.append(
                f"alter sequence {table}_id_seq owned by {table}.id;"
                f" alter table {table} alter id set default nextval('{table}_id_seq');"
            )
    server.sql("\n".join(made), database)
