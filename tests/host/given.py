"""Values of the inventory that nobody but root, Airflow and its tasks may read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import SecretStr

from tasks.settings import HostSettings

SHORTEST = 12  # characters; a shorter value is found by chance, in words that mean something else
# Settings that contain secrets. A text that another setting contains too is no secret.
HOLDERS = {
    "airflow": {"connections", "variables"},
    "web": {"certificate"},
    "worker": {"registry"},
}
# Parts of a connection's `extra` that are no secrets, and that error messages repeat.
HARMLESS = {"endpoint_url", "region_name"}


class Value(NamedTuple):
    """A text of the inventory, and where the host keeps it."""

    name: str  # its path, or its file and which one of the file it is
    path: tuple[str, ...]  # among the connections and variables; empty for a file of its own
    text: str
    used_by_tasks: bool = False  # a task may print it, and a person may have typed it

    @property
    def too_short(self) -> bool:
        """Whether other texts may have it by chance."""
        return len(self.text) < SHORTEST


def values(settings: HostSettings) -> Iterator[Value]:
    """Logins, passwords and extras of connections, variables, and the logins of the host itself."""
    for name, connection in settings.airflow.connections.items():
        dumped = connection.model_dump()
        place = ("connections", name)
        for field in ("login", "password"):
            if text := dumped[field]:
                plain = text.get_secret_value() if isinstance(text, SecretStr) else text
                yield _value((*place, field), plain, used_by_tasks=field == "login")
        for path, text in _texts(dumped["extra"], (*place, "extra")):
            if not HARMLESS & set(path):
                yield _value(path, text)
    for name, text in settings.airflow.variables.items():
        yield _value(("variables", name), text, used_by_tasks=True)
    for file, which, secret in _in_files(settings):
        if secret is not None:
            yield Value(f"{file} {which}".strip(), (), secret.get_secret_value())


def _value(path: tuple[str, ...], text: str, *, used_by_tasks: bool = False) -> Value:
    return Value(" ".join(path), path, text, used_by_tasks)


def _in_files(settings: HostSettings) -> Iterator[tuple[str, str, SecretStr | None]]:
    """Passwords and keys with a file of their own, and which one of the file each is."""
    for name, user in settings.web.users.items():
        yield "/etc/airflow/secrets/users.json", name, user.password
    for index in settings.build.indexes.values():
        if index.login:
            yield "/etc/airflow/secrets/netrc", index.host, index.password
    if settings.worker.registry:
        yield "/etc/airflow/secrets/registry-login.json", "", settings.worker.registry.password
    for role, login in (
        ("owner", settings.postgres.owner_login),
        ("dags", settings.postgres.dags_login),
    ):
        if login:
            yield f"/etc/airflow/database-{role}.login", "password", login.password
            yield f"/etc/airflow/database-{role}.login", "key", login.key


def _texts(part: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield from _texts(value, (*path, key))
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from _texts(value, (*path, str(number)))
    elif isinstance(part, str):
        yield path, part


def is_shown_elsewhere(value: Value, settings: HostSettings) -> bool:
    """Whether the inventory has the same text in a setting that is no secret."""
    return value.text in settings.model_dump_json(exclude=HOLDERS)


def searched_for(settings: HostSettings) -> list[Value]:
    """The values that a search can tell from other texts."""
    return [
        value
        for value in values(settings)
        if not value.too_short and not is_shown_elsewhere(value, settings)
    ]


def not_searched_for(settings: HostSettings) -> list[str]:
    """The other ones, each with the reason."""
    return [
        f"where the value of {value.name} lies: "
        + (
            f"it has fewer than {SHORTEST} characters, and would be found by chance"
            if value.too_short
            else "the inventory shows it in another setting as well"
        )
        for value in values(settings)
        if value.too_short or is_shown_elsewhere(value, settings)
    ]
