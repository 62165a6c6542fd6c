"""People log in with the company's LDAP: their groups decide about their roles."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

import pytest

from tasks.layout import AUTHORITY
from tests.browser import Browser
from tests.e2e.conftest import Shell
from tests.e2e.logins.support import PEOPLE, packages, run_in_browser, status
from tests.e2e.servers import LdapServer
from tests.e2e.support import Airflow, Deploy, deploy
from tests.sandbox.machine import Machine

GROUPS = {"admins": "ada", "readers": "bob"}
CONFIG = """
from flask_appbuilder.const import AUTH_LDAP

AUTH_TYPE = AUTH_LDAP
AUTH_LDAP_SERVER = "ldaps://{address}"
AUTH_LDAP_TLS_DEMAND = True
AUTH_LDAP_TLS_CACERTFILE = "{folder}/certificate.pem"
AUTH_LDAP_BIND_USER = "{user}"
AUTH_LDAP_BIND_PASSWORD = "{password}"
AUTH_LDAP_SEARCH = "dc=example,dc=com"
AUTH_LDAP_UID_FIELD = "uid"
AUTH_LDAP_GROUP_FIELD = "memberOf"
AUTH_USER_REGISTRATION = True
AUTH_USER_REGISTRATION_ROLE = "Public"
AUTH_ROLES_SYNC_AT_LOGIN = True
AUTH_ROLES_MAPPING = {{
    "cn=admins,dc=example,dc=com": ["Admin"],
    "cn=readers,dc=example,dc=com": ["Viewer"],
}}
"""


@pytest.fixture(scope="module")
def ldap(machine: Machine) -> LdapServer:
    """The company's directory."""
    return LdapServer(machine, people=tuple(PEOPLE), groups=GROUPS).start()


@pytest.fixture(scope="module")
def deployed(ldap: LdapServer, shell: Shell) -> Deploy:
    """A deploy with that login."""
    config = CONFIG.format(
        address=ldap.address, folder=ldap.folder, user=ldap.user, password=ldap.password
    )
    run = deploy(settings={**packages(shell, "authlib"), "web_login_config": config})
    assert run.code == 0, run.output
    assert ldap.password not in run.output
    return run


@pytest.fixture
def person(airflow: Airflow, shell: Shell) -> Callable[[str, str], Airflow]:
    """The REST API for somebody with a name and a password."""
    authority = shell(f"cat {AUTHORITY}")
    return lambda name, password: Airflow(airflow.url, name, lambda: password, lambda: authority)


def test_groups_decide_about_roles(
    deployed: Deploy, ldap: LdapServer, person: Callable[[str, str], Airflow]
) -> None:
    for name, expected in PEOPLE.items():
        who = person(name, ldap.password)
        assert (status(who, "/dags"), status(who, "/connections")) == expected, name
    assert status(person("ada", "another"), "/dags") == 401


def test_the_page_asks_for_that_login(deployed: Deploy, airflow: Airflow) -> None:
    url = f"{airflow.url}/auth/login/"
    with urllib.request.urlopen(url, timeout=30, context=airflow.trusting) as page:
        assert 'name="password"' in page.read().decode()


def test_somebody_starts_a_run_and_reads_its_log_in_a_browser(
    deployed: Deploy, ldap: LdapServer, airflow: Airflow, page: Browser
) -> None:
    page.log_in(airflow.url, "ada", ldap.password)
    run_in_browser(page)
    page.log_out()


def test_the_password_of_the_directory_is_for_airflow_only(
    deployed: Deploy, ldap: LdapServer, shell: Shell
) -> None:
    file = "/etc/airflow/webserver_config.py"
    assert shell(f"stat -c '%U:%G:%a' {file}") == "root:airflow:640"
    assert shell(f"grep -c {ldap.password} {file}") == "1"
    assert shell(f"runuser -u airflow-dags -- cat {file} 2>&1 || true").endswith("denied")


def test_without_the_directory_users_of_airflow_get_in(
    deployed: Deploy,
    ldap: LdapServer,
    person: Callable[[str, str], Airflow],
    airflow: Airflow,
    shell: Shell,
) -> None:
    ldap.stop()
    assert status(person("ada", ldap.password), "/dags") == 401
    assert status(airflow, "/connections") == 200
    assert "Smoke test passed" in shell("airflow-smoke-test")
