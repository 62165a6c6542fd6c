"""The command airflow-rotate, run for real, with programs that stand in for those of a host."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tasks import layout
from tasks.airflow import services
from tasks.layout import JWT_DROP_IN, JWT_KEYS
from tests.unit import formats
from tests.unit.rotating import FILES, NAMES, Host


def test_the_programs_know_all_services() -> None:
    assert ("airflow.target", *(service.unit for service in services.SERVICES)) == layout.UNITS


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One with secrets of its own."""
    return Host(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_replaced_and_the_others_stay(name: str, host: Host) -> None:
    before = {each: host.value(each) for each in NAMES}
    done = host.rotate(name)
    assert (done.returncode, done.stderr) == (0, "")
    after = {each: host.value(each) for each in NAMES}
    assert {each for each in NAMES if before[each] != after[each]} == {name}
    for value in {*before.values(), *after.values()}:
        assert value not in done.stdout
    assert {path.name for path in host.secrets.iterdir()} == set(FILES)
    modes = {path.name: path.stat().st_mode & 0o777 for path in host.secrets.iterdir()}
    assert modes == dict.fromkeys(FILES, 0o600)
    # The scheduler's group may read the kubeconfig.
    kubeconfig = host.kubeconfig.stat().st_mode & 0o777
    assert kubeconfig == (0o640 if name == "cluster-token" else 0o600)


def test_the_database_is_encrypted_with_the_new_key(host: Host) -> None:
    host.rotate("fernet-key")
    assert host.data.read_text().strip() == host.value("fernet-key")
    assert "," not in host.value("fernet-key")


def content(folder: Path) -> tuple[tuple[str, int, bytes], ...]:
    """Each path of a copy with its mode and content, but for the test's own record of restarts."""
    return tuple(
        (
            str(path.relative_to(folder)),
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
        if path.name != "restarted"
    )


@pytest.mark.parametrize("name", NAMES)
def test_killed_anywhere_it_loses_nothing_and_goes_on(name: str, tmp_path: Path) -> None:
    host, kept = Host(tmp_path), tmp_path / "kept"
    kept.mkdir()
    old = {each: host.value(each) for each in NAMES}
    assert host.rotate(name, kept=kept).returncode == 0
    # A kill before a program that only reads leaves the same host as one before the next program.
    different = {content(copy): copy for copy in kept.iterdir()}
    assert len(different) > 3
    for copy in different.values():
        host.become(copy)
        host.is_sound(old)
        done = host.rotate(name)
        assert (done.returncode, done.stderr) == (0, ""), copy.name
        host.is_sound(old)
        assert host.value(name) != old[name] and "," not in host.value("fernet-key")
        assert {path.name for path in host.secrets.iterdir()} == set(FILES), copy.name
        assert not host.place(JWT_DROP_IN).parent.exists()
        assert host.has_recorded_connections()


def test_data_that_can_not_be_read_keeps_both_keys(host: Host) -> None:
    old = host.value("fernet-key")
    host.data.write_text("another\n")
    done = host.rotate("fernet-key")
    assert done.returncode == 1 and "run airflow-rotate fernet-key again" in done.stderr
    assert host.value("fernet-key").endswith(f",{old}")


def test_two_jwt_secrets_are_accepted_by_the_names_that_tokens_give(host: Host) -> None:
    seen = []
    for _ in range(2):
        old = host.value("jwt-secret")
        host.program("sleep", f"cp {JWT_KEYS} $here/seen")
        host.rotate("jwt-secret")
        keys = json.loads((host.folder / "seen").read_text())["keys"]
        values = [base64.urlsafe_b64decode(key["k"] + "==").decode() for key in keys]
        assert values == [old, host.value("jwt-secret")]
        seen.append([key["kid"] for key in keys])
    assert seen[0][0] == "not-used" and seen[0][1] == seen[1][0]


def test_the_api_server_gets_the_keys_and_records_them(host: Host) -> None:
    host.program("sleep", f"cp {JWT_DROP_IN} $here/seen")
    host.rotate("jwt-secret")
    unit = formats.Unit.parse((host.folder / "seen").read_text())
    give, record = (formats.unit_words(line) for line in unit.all("Service.ExecStartPre"))
    url = unit.environment["AIRFLOW__API_AUTH__TRUSTED_JWKS_URL"]
    assert give[-1].endswith(f"; cat {JWT_KEYS} >{url}")
    assert record[-1] == f"sha256sum {JWT_KEYS} >>{layout.STARTED_WITH}/%n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name one or more of"),
        (("fernet-key", "fernet"), "there is no secret fernet,"),
    ],
)
def test_nothing_is_changed_for_names_that_are_none(
    arguments: tuple[str, ...], says: str, host: Host
) -> None:
    before = {each: host.value(each) for each in NAMES}
    done = host.rotate(*arguments)
    assert done.returncode == 2 and says in done.stderr and "nothing was changed" in done.stderr
    assert before == {each: host.value(each) for each in NAMES}


def test_airflow_that_was_stopped_is_not_started(host: Host) -> None:
    host.program("systemctl", "echo inactive")
    done = host.rotate("api-secret-key")
    assert done.returncode == 1 and "Airflow is stopped" in done.stderr
