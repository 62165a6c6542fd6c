"""Secrets are where they belong and nowhere else. Their values never leave the host."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tasks.settings import Settings
from tests.host import expected
from tests.host.given import searched_for
from tests.host.support import Facts, Host, Process, each_unit, only_if, python

MADE = ("fernet-key", "jwt-secret", "api-secret-key", "admin-password")
KEPT = "the files they are kept in"
# Where a login or a variable may be for a good reason: a task printed it, or a person typed it.
OPEN_TO_TASKS = ("what pods mount", "histories of shells")


@pytest.fixture(scope="module")
def names(settings: Settings) -> list[str]:
    """The secrets of this host: its own, and what the inventory gave."""
    on_this_host = [
        *("client.key's key", "ca.key's key"),  # of the cluster's administrator and authority
    ]
    return [
        *MADE,
        *("kubeconfig's token", "ca-key.pem's key", "server.pem's key"),
        *(["kubeconfig-triggerer's token"] if settings.kubernetes_pod_operator else []),
        *(["web.pem's key"] if settings.airflow_web_certificate else []),
        *(on_this_host if expected.node_is_this_host(settings) else []),
        *(["registry-login.json's password"] if expected.registry_needs_login(settings) else []),
        *(value.name for value in searched_for(settings)),
    ]


@pytest.fixture(scope="module")
def search(host: Host, facts: Facts) -> dict[str, Any]:
    """In which places the values of which secrets were found."""
    settings = facts.settings
    wanted = {
        "secrets": MADE,
        "objects": {value.name: value.path for value in searched_for(settings)},
        "kubectl": shlex.split(settings.kubectl),
        "namespaces": settings.namespaces,
        "histories": facts.histories,
    }
    return dict(python(host, "secrets", json.dumps(wanted)))


def test_search_knows_every_secret_and_finds_it(search: dict[str, Any], names: list[str]) -> None:
    # If this fails the tests below prove nothing.
    assert set(search["lengths"]) == set(names)
    assert set(search["places"][KEPT]["secrets"]) == set(names)


def test_secrets_that_the_host_made_are_long(search: dict[str, Any]) -> None:
    # 24 characters of the shortest alphabet used here, Base64, hold 144 bits.
    made = [*MADE, "kubeconfig's token"]
    assert [name for name in made if search["lengths"][name] < 24] == []


@pytest.mark.parametrize(
    "place",
    [
        "arguments of processes",
        "properties of units",
        "journal",
        "world-readable files",
        "temporary files",
        "logs of the host",
        pytest.param(
            "histories of shells",
            marks=only_if(lambda facts: facts.histories, "no shell of this host has a history"),
        ),
        "pods and events",
        "configuration",
        "what pods mount",
    ],
)
def test_no_secret_is_in(place: str, search: dict[str, Any], settings: Settings) -> None:
    assert search["places"][place]["texts"] > 0
    found = set(search["places"][place]["secrets"])
    if place in OPEN_TO_TASKS:
        found -= {value.name for value in searched_for(settings) if value.used_by_tasks}
    assert found == set()


# The api-server overwrites its environment with its title; its unit and its tokens are asked below.
@pytest.mark.parametrize("unit", [unit for unit in expected.UNITS if unit != expected.API_SERVER])
def test_service_holds_just_the_secrets_it_needs(unit: str, processes: dict[str, Process]) -> None:
    assert processes[unit].secrets == list(expected.service(unit).secrets)


@pytest.mark.parametrize("unit", [expected.DAG_PROCESSOR, expected.TRIGGERER])
def test_who_runs_users_code_can_not_mint_tokens(unit: str, processes: dict[str, Process]) -> None:
    variables = processes[unit].variables
    assert "AIRFLOW__CORE__FERNET_KEY" in variables  # the environment could be read
    assert "AIRFLOW__API_AUTH__JWT_SECRET" not in variables


@each_unit
def test_unit_is_given_just_the_secrets_it_needs(
    unit: str, units: dict[str, dict[str, str]]
) -> None:
    lines = units[unit]["EnvironmentFiles"].splitlines()
    given = {line.partition(" ")[0] for line in lines}
    assert given == {f"/etc/airflow/secrets/{name}" for name in expected.service(unit).secrets}


def test_api_server_signs_tokens_with_the_secret(api: dict[str, Any]) -> None:
    assert api["signed_with_jwt_secret"]
    assert not api["signed_with_empty_key"]
