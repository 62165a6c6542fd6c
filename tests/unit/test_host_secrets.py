"""The search for secrets of tests/host knows each file as the deploy and the rotation write it."""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tasks import layout
from tasks.layout import ROOT, SECRETS
from tests.host import given, kept
from tests.unit import fake
from tests.unit.rotating import FILES, Host

PROGRAM = ROOT / "tests/host/on_host/secrets.py"
PASSWORD = "hidden:\\\"'ö in {}"
SETTINGS = {
    **fake.EXISTING_DATABASE,
    "web_users": {
        "ada": {"roles": ["Op"], "password": PASSWORD.format("users")},
        "bob": {"roles": ["Op"]},
        "short": {"roles": ["Op"], "password": "airflow"},
    },
    "build_indexes": {
        name: {"url": f"https://{name}.example/", "username": "ci", "password": f"hidden-in-{name}"}
        for name in ("mirror", "team")
    },
    "worker_registry": {
        "repository": "registry.example/team/airflow",
        "username": "deploy",
        "password": PASSWORD.format("registry"),
    },
}


def search(root: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> ModuleType:
    """The program of the search on a host that is a folder."""
    wanted = json.dumps(kept.search(fake.settings(settings)))
    on_it = re.compile("(?<!\\w)/(?=(?:etc/airflow|var/lib|root)/)")
    monkeypatch.setattr(sys, "argv", ["", on_it.sub(f"{root}/", wanted)])
    source = PROGRAM.read_text().removesuffix("\nmain()\n")
    program = ModuleType("search")
    exec(on_it.sub(f"{root}/", source), vars(program))
    return program


def found(program: ModuleType, root: Path) -> dict[str, str]:
    """The values that it looks for, by their names on a real host."""
    values: dict[str, str] = program.values(program.kept())
    return {name.removeprefix(str(root)): value for name, value in values.items()}


def unknown(program: ModuleType, root: Path) -> set[str]:
    """The files that it has no value of."""
    return {path.removeprefix(str(root)) for path, kind in program.kept().items() if not kind}


def put(root: Path, path: str, text: str) -> None:
    """Write a file of the host."""
    file = Path(f"{root}{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_each_secret_of_the_inventory_is_taken_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS | {
        "airflow_connections": {"api": {"conn_type": "http", "password": PASSWORD.format("api")}}
    }
    for each in fake.plan(fake.settings(settings)).operations:
        for path in re.findall(r"cat > (/\S+)\.new", " ".join(each.commands)):
            put(tmp_path, path, each.inputs[0])
    program = search(tmp_path, monkeypatch, settings)
    key = str(program.telling(fake.PAIR["key"]))
    wanted = {
        "connections api password": PASSWORD.format("api"),
        f"{SECRETS}/users.json ada": PASSWORD.format("users"),
        f"{SECRETS}/netrc mirror.example": "hidden-in-mirror",
        f"{SECRETS}/netrc team.example": "hidden-in-team",
        f"{SECRETS}/registry-login.json": PASSWORD.format("registry"),
        "/etc/airflow/database-owner.login password": "hidden:in\\file",
        "/etc/airflow/database-dags.login key": key,
    }
    assert found(program, tmp_path) == wanted
    searched = {value.name for value in given.searched_for(fake.settings(settings))}
    assert searched == wanted.keys()
    texts = [Path(path).read_bytes() for path in program.kept()]
    for name, value in wanted.items():
        assert any(form in text for form in program.forms(value) for text in texts), name
    assert unknown(program, tmp_path) == {f"{SECRETS}/objects.json"}


def test_passwords_that_the_host_made_are_taken_and_other_files_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, f"{SECRETS}/users/bob", "made by the host\n")
    put(tmp_path, f"{SECRETS}/users.new/eve", "made by a run that was killed\n")
    put(tmp_path, f"{SECRETS}/users.json.new", '{"users": {"ada')
    put(tmp_path, f"{SECRETS}/registry-login.json.new", "")
    put(tmp_path, f"{SECRETS}/another", "whatever")
    put(tmp_path, f"{SECRETS}/folder/.hidden", "whatever")
    program = search(tmp_path, monkeypatch, {})
    assert found(program, tmp_path) == {
        f"{SECRETS}/users/bob": "made by the host",
        f"{SECRETS}/users.new/eve": "made by a run that was killed",
    }
    assert unknown(program, tmp_path) == {f"{SECRETS}/another", f"{SECRETS}/folder/.hidden"}


# Files that have the old secret or the new one beside the usual file while it changes.
CHANGING = {
    "fernet-key": ("fernet-key 2", "fernet-key.next"),
    "jwt-secret": ("jwt-keys not-used", "jwt-secret.next"),
    "admin-password": ("admin-password.new",),
}


@pytest.mark.parametrize("name", CHANGING)
def test_while_a_secret_changes_the_old_and_the_new_one_are_taken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, copies = Host(tmp_path), tmp_path / "copies"
    copies.mkdir()
    old = host.value(name)
    assert host.rotate(name, kept=copies).returncode == 0
    seen = set[str]()
    for copy in copies.iterdir():
        root = copy / "root"
        program = search(root, monkeypatch, {})
        values = found(program, root)
        assert {f"{SECRETS}/{each}" for each in FILES} <= values.keys()
        assert unknown(program, root) == set()
        seen |= {each for each, value in values.items() if value in (old, host.value(name))}
    assert {f"{SECRETS}/{each}" for each in (name, *CHANGING[name])} <= seen


def test_every_place_of_secrets_is_looked_into() -> None:
    places = [place.path for place in layout.PLACES if place.kind == "secret"]
    files = [*places, *layout.DATABASE_LOGINS.values(), layout.BACKUP_KEY]
    patterns = [
        *(f"{folder}*" for folder in kept.FOLDERS),
        *kept.SOMETIMES,
        *(row.path for row in kept.KEPT),
    ]
    assert [path for path in files if not any(fnmatchcase(path, at) for at in patterns)] == []
