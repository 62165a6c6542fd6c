"""Secrets are where they belong and nowhere else. Their values never leave the host."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tasks.settings import HostSettings
from tests.host import expected, kept
from tests.host.given import Value, searched_for
from tests.host.kept import MADE
from tests.host.support import (
    OWN_POSTGRES,
    Facts,
    Host,
    InVenv,
    Process,
    each_unit,
    only_if,
    python,
)

KEYS = {"fernet-key", "jwt-secret", "api-secret-key"}
# Where a login or a variable may be for a good reason: a task printed it, or a person typed it. Not
# a variable that Airflow itself takes for a secret, by its name: its logs have *** instead.
OPEN_TO_TASKS = ("folders that pods mount", "histories of shells")


@pytest.fixture(scope="module")
def given(settings: HostSettings) -> dict[str, Value]:
    """The values of the inventory to search for."""
    return {value.name: value for value in searched_for(settings)}


@pytest.fixture(scope="module")
def wanted(facts: Facts) -> dict[str, Any]:
    """The values and the places of the search."""
    return {
        **kept.search(facts.settings),
        "kubectl": shlex.split(facts.settings.kubectl),
        "namespaces": facts.settings.kubernetes.namespaces,
        "histories": facts.histories,
    }


@pytest.fixture(scope="module")
def search(host: Host, wanted: dict[str, Any]) -> dict[str, Any]:
    """In which places the values of which secrets were found."""
    return dict(python(host, "secrets", json.dumps(wanted)))


def test_every_secret_is_searched_for(
    search: dict[str, Any], given: dict[str, Value], settings: HostSettings
) -> None:
    assert {*kept.made(settings), *given} - search["lengths"].keys() == set()


def test_every_file_among_the_secrets_is_searched_for_or_has_a_reason(
    search: dict[str, Any],
) -> None:
    unknown = search["unknown"]
    assert "/etc/airflow/tls/ca.pem" in unknown  # all files were listed
    assert [path for path in unknown if not kept.reason(path)] == []


def test_search_finds_every_secret_where_it_is_kept(search: dict[str, Any]) -> None:
    # If this fails the tests below prove nothing.
    found = search["places"]["the files they are kept in"]["secrets"]
    assert set(found) == search["lengths"].keys()


def test_secrets_that_the_host_made_are_long(
    search: dict[str, Any], given: dict[str, Value]
) -> None:
    # 24 characters of Base64 hold 144 bits. Of a file with several lines this is one of them.
    ours = search["lengths"].keys() - given.keys()
    assert [name for name in ours if search["lengths"][name] < 24] == []


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
        "folders that pods mount",
    ],
)
def test_no_secret_is_in(
    place: str, search: dict[str, Any], given: dict[str, Value], in_venv: InVenv
) -> None:
    assert search["places"][place]["texts"] > 0
    found = set(search["places"][place]["secrets"])
    if place in OPEN_TO_TASKS:
        hidden = {f"variables {name}" for name in in_venv.hidden}
        found -= {name for name, value in given.items() if value.used_by_tasks} - hidden
    assert found == set()


# The api-server overwrites its environment with its title; its unit and its tokens are asked below.
@pytest.mark.parametrize("unit", [unit for unit in expected.UNITS if unit != expected.API_SERVER])
def test_service_holds_just_the_secrets_it_needs(unit: str, processes: dict[str, Process]) -> None:
    assert processes[unit].secrets == list(expected.SERVICES[unit].secrets)


@pytest.mark.parametrize("unit", [expected.DAG_PROCESSOR, expected.TRIGGERER])
def test_services_that_run_users_code_can_not_sign_tokens(
    unit: str, processes: dict[str, Process]
) -> None:
    variables = processes[unit].variables
    assert "AIRFLOW__CORE__FERNET_KEY" in variables  # the environment could be read
    assert "AIRFLOW__API_AUTH__JWT_SECRET" not in variables


@each_unit
def test_unit_is_given_just_the_secrets_it_needs(
    unit: str, units: dict[str, dict[str, str]]
) -> None:
    lines = units[unit]["EnvironmentFiles"].splitlines()
    given = {line.partition(" ")[0] for line in lines} - {"/etc/airflow/dags.env"}
    assert given == {f"/etc/airflow/secrets/{name}" for name in expected.SERVICES[unit].secrets}


# The secrets that each Linux user can read: those of its processes, and files that are for it.
READABLE: dict[str, dict[str, set[str]]] = {
    # The triggerer's token may do less than its own.
    "airflow": {"files": {"control-plane", "triggerer"}, "environments": KEYS},
    "airflow-dags": {"files": {"triggerer"}, "environments": {"fernet-key"}},
    "postgres": {"files": set(), "environments": set()},
    "nobody": {"files": set(), "environments": set()},
}


@pytest.fixture(scope="module")
def readable(host: Host, settings: HostSettings) -> dict[str, dict[str, list[str]]]:
    """Which secrets each Linux user can read, in files and in environments."""
    files = {name: f"/etc/airflow/secrets/{name}" for name in MADE}
    files["control-plane"] = "/etc/airflow/kubeconfig.d/token"
    files["renewal"] = "/etc/airflow/kubeconfig-renewal.d/token"
    if expected.has_pod_operator(settings):
        files["triggerer"] = "/etc/airflow/kubeconfig-triggerer.d/token"
    users = [each for each in ("root", *READABLE) if host.user(each).exists]
    return dict(python(host, "readers", json.dumps({"users": users, "files": files})))


def test_root_finds_the_secrets_that_others_are_searched_for(
    readable: dict[str, dict[str, list[str]]],
) -> None:
    # If this fails the test below proves nothing.
    assert set(readable["root"]["files"]) >= {*MADE, "control-plane", "renewal"}
    assert {"fernet-key", "jwt-secret"} <= set(readable["root"]["environments"])


@pytest.mark.parametrize(
    "user",
    [pytest.param(user, marks=OWN_POSTGRES if user == "postgres" else []) for user in READABLE],
)
def test_a_user_reads_no_secret_but_its_own(
    user: str, readable: dict[str, dict[str, list[str]]]
) -> None:
    for place, names in READABLE[user].items():
        assert set(readable[user][place]) <= names, place


def test_api_server_signs_tokens_with_the_secret(api: dict[str, Any]) -> None:
    assert api["signed_with_jwt_secret"]
    assert not api["signed_with_empty_key"]
