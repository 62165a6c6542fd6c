"""People log in with the company's LDAP: their groups decide about their roles."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable

import pytest

from tasks.layout import AUTHORITY
from tests.e2e.conftest import Shell
from tests.e2e.servers import LdapServer
from tests.e2e.support import Airflow, Deploy, deploy
from tests.sandbox.machine import Machine

# Each with the status of the answers to reading DAGs and to reading connections.
PEOPLE = {"ada": (200, 200), "bob": (200, 403), "eve": (403, 403)}
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
    library = "libldap2" if "trixie" in shell("cat /etc/os-release") else "libldap-2.5-0"
    run = deploy(
        settings={
            "airflow_extra_requirements": ["python-ldap"],
            "build_apt_packages": [
                *("build-essential", "python3-dev", "libldap-dev", "libsasl2-dev"),
            ],
            "worker_extra_apt_packages": [library],
            "web_login_config": config,
            "web_logins_per_minute": 100,
        }
    )
    assert run.code == 0, run.output
    assert ldap.password not in run.output
    return run


@pytest.fixture
def person(airflow: Airflow, shell: Shell) -> Callable[[str, str], Airflow]:
    """The REST API for somebody with a name and a password."""
    authority = shell(f"cat {AUTHORITY}")
    return lambda name, password: Airflow(airflow.url, name, lambda: password, lambda: authority)


def status(who: Airflow, path: str) -> int:
    """The answer to a person who reads something, or who may not log in."""
    try:
        who.request("GET", path)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


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


def test_passwords_come_back(deployed: Deploy, shell: Shell) -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert "webserver_config.py" not in shell("ls /etc/airflow")
    assert "webserver_config" not in shell("cat /etc/airflow/airflow.cfg")
    assert deploy().changed == []
