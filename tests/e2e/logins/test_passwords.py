"""Users and roles of the inventory log in with passwords."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Any

import pytest

from tasks.layout import AUTHORITY, USER_PASSWORDS, USERS
from tests.browser import Browser
from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.logins.support import run_in_browser, status
from tests.e2e.support import Airflow, Deploy, deploy

PASSWORD = token_hex(16)
SETTINGS: dict[str, Any] = {
    **example("users", environ={"REPORTS_PASSWORD": PASSWORD}),
    "web_logins_per_minute": 100,
}
SYNC = "Users | Make users and roles as the inventory has them"
RUNS = "/dags/example_bash/dagRuns"
ALL = "airflow users list --output plain"

Person = Callable[[str, str], Airflow]


@pytest.fixture(scope="module")
def deployed(shell: Shell) -> Deploy:
    """A deploy with users, on a host where a person made one by hand."""
    shell(
        "airflow users create --username byhand --role Op --email byhand@example.com"
        " --firstname By --lastname Hand --use-random-password >/dev/null"
    )
    run = deploy("-vvv", "--diff", settings=SETTINGS)
    assert run.code == 0, run.output
    assert SYNC in run.changed and PASSWORD not in run.output
    return run


@pytest.fixture
def person(airflow: Airflow, shell: Shell) -> Person:
    """The REST API for somebody with a name and a password."""
    authority = shell(f"cat {AUTHORITY}")
    return lambda name, password: Airflow(airflow.url, name, lambda: password, lambda: authority)


def of_host(shell: Shell, name: str) -> str:
    """The password that the host made for a user."""
    return shell(f"cat {USER_PASSWORDS}/{name}")


def test_roles_decide_what_users_may_do(deployed: Deploy, person: Person, shell: Shell) -> None:
    reports = person("reports", PASSWORD)
    assert status(reports, "/dags") == 200
    assert status(reports, RUNS, "POST", {"logical_date": None}) == 403
    sam = person("sam", of_host(shell, "sam"))
    assert status(sam, RUNS, "POST", {"logical_date": None}) == 200
    assert [status(sam, path) for path in ("/dags", "/connections", "/variables")] == [
        200,
        403,
        403,
    ]
    assert status(person("ada", of_host(shell, "ada")), "/connections") == 200
    assert status(person("ada", PASSWORD), "/connections") == 401


def test_a_second_deploy_changes_nothing(deployed: Deploy) -> None:
    assert deploy(settings=SETTINGS).changed == []


def test_passwords_are_roots(deployed: Deploy, shell: Shell) -> None:
    assert shell(f"stat -c %U:%a {USERS} {USER_PASSWORDS} {USER_PASSWORDS}/*").split() == [
        "root:600",
        "root:700",
        *["root:600"] * 2,
    ]
    assert shell(f"runuser -u airflow -- cat {USERS} 2>&1 || true").endswith("denied")


def test_changes_by_hand_are_corrected_but_not_what_belongs_to_the_person(
    deployed: Deploy, person: Person, shell: Shell
) -> None:
    shell(
        "airflow users add-role --username reports --role Admin >/dev/null;"
        " airflow users reset-password --username reports --password another-1 >/dev/null;"
        " airflow users reset-password --username sam --password another-2 >/dev/null;"
        " airflow users delete --username ada >/dev/null"
    )
    run = deploy(settings=SETTINGS)
    assert run.code == 0, run.output
    assert run.changed == [SYNC]
    assert status(person("reports", PASSWORD), "/connections") == 403
    assert status(person("reports", "another-1"), "/dags") == 401
    assert status(person("sam", "another-2"), "/dags") == 200
    assert status(person("ada", of_host(shell, "ada")), "/connections") == 200


def test_another_password_and_one_user_less(deployed: Deploy, person: Person, shell: Shell) -> None:
    new = token_hex(16)
    users = {"reports": {**SETTINGS["web_users"]["reports"], "password": new}}
    run = deploy(settings={**SETTINGS, "web_users": users})
    assert run.code == 0, run.output
    assert status(person("reports", new), "/dags") == 200
    assert status(person("reports", PASSWORD), "/dags") == 401
    assert {"sam", "ada"}.isdisjoint(shell(ALL).split())
    assert "byhand" in shell(ALL).split()
    assert shell(f"ls {USER_PASSWORDS} 2>&1 || true").endswith("No such file or directory")


def test_a_user_of_others_is_refused_before_anything_changes(deployed: Deploy) -> None:
    run = deploy(settings={**SETTINGS, "web_users": {"byhand": {"roles": ["Viewer"]}}})
    assert run.code != 0
    assert "the web page has a user byhand that the deploy did not make" in run.output


def test_the_first_user_starts_a_run_and_reads_its_log_in_a_browser(
    deployed: Deploy, airflow: Airflow, shell: Shell, page: Browser
) -> None:
    page.log_in(airflow.url, "admin", shell("cat /etc/airflow/secrets/admin-password"))
    run_in_browser(page)
    page.log_out()


def test_without_the_setting_the_users_go(deployed: Deploy, shell: Shell) -> None:
    run = deploy(settings={"web_logins_per_minute": 100})
    assert run.code == 0, run.output
    assert "Users | Remove the users of an earlier inventory" in run.changed
    assert "reports" not in shell(ALL).split() and "byhand" in shell(ALL).split()
    assert "users" not in shell("ls /etc/airflow/secrets")
    shell("airflow users delete --username byhand >/dev/null")
    assert deploy(settings={"web_logins_per_minute": 100}).changed == []
