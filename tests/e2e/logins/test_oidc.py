"""People log in with the company's OpenID Connect: their groups decide about their roles."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from secrets import token_hex

import pytest

from tasks.layout import LOGIN_CONFIG
from tests.browser import Browser
from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.logins.support import PEOPLE, packages, run_in_browser, status
from tests.e2e.servers import OidcServer
from tests.e2e.support import SLACK, Airflow, Deploy, deploy
from tests.sandbox.machine import Machine
from tests.support import wait_for

GROUPS = {"airflow-admins": "ada", "airflow-readers": "bob", "cooks": "eve"}
LOGIN = "/auth/login/company"
FAILED = "Error on OAuth authorize"


class Form(HTMLParser):
    """The form of a page, and its fields without buttons."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.asks_to_agree = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        name = found.get("name", "")
        if tag == "form":
            self.action = found.get("action", "")
        elif tag in ("input", "button") and found.get("type") == "submit":
            self.asks_to_agree |= (name, found.get("value")) == ("answer", "accept")
        elif tag == "input" and name:
            self.fields[name] = found.get("value", "")


class Person:
    """Somebody with a browser that trusts Airflow's authority and the provider's."""

    def __init__(self, airflow: Airflow, oidc: OidcServer, authority: str, name: str) -> None:
        self.airflow, self.oidc, self.name = airflow, oidc, name
        context = ssl.create_default_context(cadata=authority)
        context.load_verify_locations(cadata=airflow_authority(airflow))
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies),
            urllib.request.HTTPSHandler(context=context),
        )

    def get(self, url: str, form: dict[str, str] | None = None, came: str = "") -> tuple[str, str]:
        """The address at which redirects end, and its page."""
        data = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(url, data, {"Referer": came} if came else {})
        with self.opener.open(request, timeout=30) as answer:
            return answer.url, answer.read().decode()

    def log_in(self) -> str:
        """Follow the way to the provider, through its forms, and back; returns where it ends."""
        url, page = self.get(self.airflow.url + LOGIN)
        for _ in range(5):  # name, password, consent
            if not url.startswith(self.oidc.url):
                break
            form = Form(page)
            fields = {**form.fields}
            known = {"login": self.name, "password": self.oidc.password}
            fields |= {name: value for name, value in known.items() if name in fields}
            if form.asks_to_agree:
                fields["answer"] = "accept"
            url, page = self.get(urllib.parse.urljoin(url, form.action or url), fields, url)
        return url

    def status(self, path: str) -> int:
        """The REST API's answer to the token that the login gave."""
        token = "".join(str(each.value) for each in self.cookies if each.name == "_token")
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{self.airflow.url}/api/v2{path}", headers=headers)
        try:
            with self.opener.open(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


def airflow_authority(airflow: Airflow) -> str:
    """The certificate of the host's authority."""
    (found,) = airflow.trusting.get_ca_certs(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(found)


@pytest.fixture(scope="module")
def oidc(machine: Machine, airflow: Airflow) -> OidcServer:
    """The company's provider."""
    redirect = f"{airflow.url}/auth/oauth-authorized/company"
    server = OidcServer(machine, people=tuple(PEOPLE), groups=GROUPS, redirect=redirect)
    return server.start()


@pytest.fixture(scope="module")
def settings(oidc: OidcServer, airflow: Airflow, shell: Shell) -> dict[str, object]:
    """The settings of that login."""
    given = example(
        "openid_connect",
        {
            "https://airflow.example.com": airflow.url,
            "https://login.example.com/.well-known/openid-configuration": oidc.metadata_url,
            "/etc/ssl/certs/ca-certificates.crt": oidc.ca_file,
        },
        environ={"OIDC_CLIENT_SECRET": oidc.client_secret, "REPORTS": token_hex(16)},
    )
    return {**given, **packages(shell, *given["airflow_extra_requirements"])}


@pytest.fixture(scope="module")
def deployed(settings: dict[str, object], oidc: OidcServer) -> Deploy:
    """A deploy with that login."""
    run = deploy("-vvv", "--diff", settings=settings)
    assert run.code == 0, run.output
    assert oidc.client_secret not in run.output
    return run


@pytest.fixture
def people(deployed: Deploy, airflow: Airflow, oidc: OidcServer, shell: Shell) -> list[Person]:
    """All of them, none of whom has logged in."""
    authority = shell(f"cat {oidc.ca_file}")
    return [Person(airflow, oidc, authority, name) for name in PEOPLE]


def test_groups_decide_about_roles(people: list[Person], shell: Shell) -> None:
    """Who has no group that counts gets in, and may see nothing."""
    for person in people:
        assert person.log_in().startswith(f"{person.airflow.url}/"), person.name
        found = tuple(map(person.status, ("/dags", "/connections")))
        assert found == PEOPLE[person.name], person.name
        secure = {cookie.name: cookie.secure for cookie in person.cookies}
        assert secure["session"] and secure["_token"]
    assert "ada@example.com" in shell("airflow users list --output plain")


def test_a_logout_ends_it(people: list[Person]) -> None:
    person = people[0]
    person.log_in()
    assert person.status("/dags") == 200
    url, _ = person.get(f"{person.airflow.url}/auth/logout")
    assert url.startswith(f"{person.airflow.url}/auth/login/")
    assert person.status("/dags") == 401
    url, _ = person.get(f"{person.airflow.url}/auth/users/userinfo/")
    assert "/auth/login/" in url


def test_somebody_starts_a_run_and_reads_its_log_in_a_browser(
    deployed: Deploy, oidc: OidcServer, airflow: Airflow, page: Browser
) -> None:
    page.log_in_with("company", airflow.url, "ada", oidc.password)
    run_in_browser(page)
    page.log_out()


def test_the_clients_secret_is_for_the_api_server_only(
    deployed: Deploy, oidc: OidcServer, shell: Shell
) -> None:
    secret = oidc.client_secret
    assert shell(f"stat -c '%U:%G:%a' {LOGIN_CONFIG}") == "root:airflow:640"
    assert shell(f"grep -c {secret} {LOGIN_CONFIG}") == "1"
    # A pattern that is not itself the secret, since grep's own arguments are among those.
    pattern = f"[{secret[0]}]{secret[1:]}"
    found = (
        f"cat /proc/[0-9]*/cmdline | grep -ac '{pattern}';"
        f" journalctl -q -b | grep -v COMMAND | grep -c '{pattern}';"
        f" find /etc /run /tmp /var/lib /var/log -xdev -type f -perm -o=r -size -2M"
        f" -not -path '*/overlay*' -exec grep -lc '{pattern}' {{}} + | wc -l"
    )
    assert shell(found).split() == ["0", "0", "0"]


def test_others_get_in_while_the_provider_is_down(
    people: list[Person], oidc: OidcServer, airflow: Airflow, shell: Shell
) -> None:
    """The page says that the login failed, and its journal says why."""
    oidc.stop()
    # It has not asked the provider yet.
    shell("systemctl restart airflow-api-server")
    person = people[1]
    url, _ = person.get(airflow.url + LOGIN)
    assert url.startswith(f"{airflow.url}/")
    _, page = person.get(f"{airflow.url}/auth/login/")
    assert "Invalid login. Please try again." in page
    said = shell(f"journalctl -u airflow-api-server -n 200 -o cat | grep '{FAILED}' | tail -n 1")
    assert "Connection refused" in said and oidc.address.partition(":")[0] in said
    assert status(airflow, "/connections") == 200
    assert "Smoke test passed" in shell("airflow-smoke-test")


def test_root_lets_people_in_with_passwords_until_the_next_deploy(
    deployed: Deploy,
    settings: dict[str, object],
    airflow: Airflow,
    shell: Shell,
    page: Browser,
) -> None:
    """As the README says it, with the provider still down."""
    shell(f"truncate -s 0 {LOGIN_CONFIG} && systemctl restart airflow-api-server")
    page.log_in(airflow.url, "admin", shell("cat /etc/airflow/secrets/admin-password"))
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    with urllib.request.urlopen(
        f"{airflow.url}/auth/login/", timeout=30, context=airflow.trusting
    ) as answer:
        assert "btn-signin-company" in answer.read().decode()


def test_an_authority_that_is_not_trusted_is_named(
    people: list[Person], settings: dict[str, object], oidc: OidcServer, shell: Shell
) -> None:
    oidc.start()
    config = str(settings["web_login_config"]).replace(
        oidc.ca_file, "/etc/ssl/certs/ca-certificates.crt"
    )
    run = deploy(settings={**settings, "web_login_config": config})
    assert run.code == 0, run.output
    people[1].get(people[1].airflow.url + LOGIN)

    def said() -> str:
        return shell(f"journalctl -u airflow-api-server -n 100 -o cat | grep '{FAILED}' || true")

    wait_for(
        lambda: "CERTIFICATE_VERIFY_FAILED" in said(), 10 + SLACK, "the journal names the reason"
    )


def test_passwords_come_back(deployed: Deploy, shell: Shell) -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert "webserver_config.py" not in shell("ls /etc/airflow")
    assert "webserver_config" not in shell("cat /etc/airflow/airflow.cfg")
    assert deploy().changed == []
