"""sync-objects.py check|apply < FILE: the database has the connections, variables and pools that
FILE lists as JSON. Objects that FILE does not name stay as they are. Written by the deploy of
Airflow; /usr/local/lib/airflow/run starts it in Airflow's virtual environment.

Values are secret, so only names are printed.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from airflow.models import Connection, Pool, Variable
from airflow.utils.session import create_session
from lib import fail, usage
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

CONNECTION_FIELDS = ("conn_type", "host", "login", "password", "schema", "port", "extra")
POOL_FIELDS = ("slots", "description", "include_deferred")


def fields_differ(found: Any, wanted: Any, names: Iterable[str]) -> bool:
    """Whether an object should change; JSON is compared by its meaning."""

    def value(thing: Any, name: str) -> Any:
        return thing.extra_dejson if name == "extra" else getattr(thing, name)

    return any(value(found, name) != value(wanted, name) for name in names)


def sync(session: Session, wanted: Any, key: str, names: Iterable[str], check: bool) -> bool:
    """Add an object, or make the one with the same key equal; returns whether they differed."""
    kind = type(wanted)
    found = session.scalar(select(kind).where(getattr(kind, key) == getattr(wanted, key)))
    if found is None:
        if not check:
            session.add(wanted)
        return True
    if not fields_differ(found, wanted, names):
        return False
    if not check:
        for name in names:
            setattr(found, name, getattr(wanted, name))
    return True


def objects(data: dict[str, Any]) -> Iterator[tuple[Any, str, tuple[str, ...]]]:
    """Each wanted object with the name of its key and of the fields to compare."""
    for name, values in data["connections"].items():
        extra = values.pop("extra")
        extra = json.dumps(extra) if extra else None
        yield Connection(conn_id=name, extra=extra, **values), "conn_id", CONNECTION_FIELDS
    for name, value in data["variables"].items():
        yield Variable(key=name, val=value), "key", ("val",)
    for name, values in data["pools"].items():
        yield Pool(pool=name, **values), "pool", POOL_FIELDS


def main() -> None:
    """Compare or change all of them in one transaction."""
    if sys.argv[1:] not in (["check"], ["apply"]):
        usage()
    check = sys.argv[1] == "check"
    different = []
    with create_session() as session, session.no_autoflush:
        for wanted, key, names in objects(json.load(sys.stdin)):
            name = f"{type(wanted).__name__.lower()} {getattr(wanted, key)}"
            try:
                if sync(session, wanted, key, names, check):
                    different.append(name)
                session.flush()
            except DBAPIError as error:
                # Its own text has the values.
                said = error.orig.diag.message_primary or error.orig
                fail(f"{name}: {said}")
    if check and different:
        fail(f"these differ from the inventory: {', '.join(different)}")


if __name__ == "__main__":
    main()
