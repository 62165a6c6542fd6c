"""Secrets are where they belong and nowhere else. Their values never leave the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import tls
from tasks.airflow import SECRET_FILES
from tasks.settings import Settings
from tests.host.support import Host, Process, python

# Airflow's security model: only who mints or checks tokens has the key of the tokens.
HOLDERS = {
    "airflow-scheduler.service": ["api-secret-key", "fernet-key", "jwt-secret"],
    "airflow-dag-processor.service": ["fernet-key"],
    "airflow-triggerer.service": ["api-secret-key", "fernet-key"],
}


@pytest.fixture(scope="module")
def search(host: Host, settings: Settings) -> dict[str, Any]:
    """In which places the values of which secrets were found."""
    return dict(python(host, "secrets", settings.kubectl, *settings.namespaces))


@pytest.mark.parametrize("name", [*SECRET_FILES, "admin-password", "kubeconfig's token"])
def test_secret_is_long_and_the_search_finds_it(name: str, search: dict[str, Any]) -> None:
    assert search["lengths"][name] >= 24
    # If this fails the tests below prove nothing.
    assert name in search["places"]["the files they are kept in"]["secrets"]


def test_secrets_that_the_inventory_gave_are_searched_for_too(
    search: dict[str, Any], settings: Settings
) -> None:
    given = {name for name in search["lengths"] if name.startswith(("objects.json", "registry"))}
    passwords = [c.password for c in settings.airflow_connections.values() if c.password]
    registry = settings.worker_registry and settings.worker_registry.password
    # A short one would be found by chance.
    wanted = sum(len(p.get_secret_value()) >= 12 for p in passwords) + bool(registry)
    assert len(given) >= wanted
    assert given <= set(search["places"]["the files they are kept in"]["secrets"])


def test_keys_of_certificates_are_searched_for_too(
    search: dict[str, Any], settings: Settings
) -> None:
    keys = {name for name in search["lengths"] if name.endswith(".pem's key")}
    kept = {tls.AUTHORITYS_KEY, tls.MADE, tls.of_page(settings)}
    assert keys == {f"{Path(path).name}'s key" for path in kept}
    assert keys <= set(search["places"]["the files they are kept in"]["secrets"])


@pytest.mark.parametrize(
    "place",
    [
        "arguments of processes",
        "properties of units",
        "journal",
        "world-readable files",
        "temporary files",
        "logs of the host",
        "histories of shells",
        "pods and events",
        "configuration",
        "what pods mount",
    ],
)
def test_no_secret_is_in(place: str, search: dict[str, Any]) -> None:
    assert search["places"][place]["bytes"] > 0
    assert search["places"][place]["secrets"] == []


@pytest.mark.parametrize("unit", HOLDERS)
def test_service_holds_just_the_secrets_it_needs(unit: str, processes: dict[str, Process]) -> None:
    assert processes[unit].secrets == HOLDERS[unit]


@pytest.mark.parametrize("unit", ["airflow-dag-processor.service", "airflow-triggerer.service"])
def test_who_runs_users_code_can_not_mint_tokens(unit: str, processes: dict[str, Process]) -> None:
    variables = processes[unit].variables
    assert "AIRFLOW__CORE__FERNET_KEY" in variables  # the environment could be read
    assert "AIRFLOW__API_AUTH__JWT_SECRET" not in variables


# The api-server overwrites its environment with its title, so systemd and its tokens are asked.
def test_api_server_is_given_its_secrets(units: dict[str, dict[str, str]]) -> None:
    files = units["airflow-api-server.service"]["EnvironmentFiles"]
    for name in SECRET_FILES:
        assert f"/etc/airflow/secrets/{name}" in files
    assert "admin-password" not in files


def test_api_server_signs_tokens_with_the_secret(api: dict[str, Any]) -> None:
    assert api["signed_with_jwt_secret"]
    assert not api["signed_with_empty_key"]
