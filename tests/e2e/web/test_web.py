"""Who reaches what: people the web page with TLS, if they are to, and pods the Execution API."""

from __future__ import annotations

import re
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tasks import tls
from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, Browser, deploy, host_tests, inventory_with
from tests.sandbox.machine import Machine
from tests.support import wait_for

PORTS = {"page": 443, "pods": 8081}
CLOSED: dict[str, object] = {"airflow_web_host": "127.0.0.1"}  # the default
SMOKE_TEST = "Smoke test | Run a tiny DAG as a pod (about 10 s)"
BROKEN = "/etc/nginx/conf.d/e2e.conf"


def status(
    machine: Machine, port: int, path: str, context: ssl.SSLContext, body: bytes | None = None
) -> int:
    """With what a request is answered."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"https://{machine.address}:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def shown(machine: Machine, *ports: str) -> set[str]:
    """The certificates that these ports show."""
    return {ssl.get_server_certificate((machine.address, PORTS[port])) for port in ports}


def is_open(machine: Machine, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((machine.address, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_only_nginxs_site_is_reached_from_outside(
    machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    assert shell("ss -Hltn sport = :80") == "", "Debian's welcome page is there"
    with urllib.request.urlopen(airflow.url, timeout=20, context=airflow.trusting) as page:
        assert "<title>Airflow" in page.read().decode()
    assert [port for port in (443, 8080, 8081) if is_open(machine, port)] == [443, 8081]
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        status(machine, PORTS["page"], "/", ssl.create_default_context())


@pytest.mark.parametrize(
    ("port", "path", "expected"),
    [
        ("page", "/api/v2/version", 200),
        ("page", "/execution/health", 404),
        ("page", "/execution", 404),
        ("page", "/%65xecution/health", 404),
        ("page", "//execution/health", 404),
        ("page", "/dags/..%2fexecution/health", 400),
        ("pods", "/execution/health", 200),
        ("pods", "/api/v2/version", 404),
        ("pods", "/auth/login/", 404),
        ("pods", "/", 404),
        ("pods", "/execution/../api/v2/version", 400),
    ],
)
def test_people_and_pods_have_a_port_each(
    port: str, path: str, expected: int, machine: Machine, airflow: Airflow
) -> None:
    assert status(machine, PORTS[port], path, airflow.trusting) == expected


def test_cookies_are_for_tls_only_and_redirects_stay_there(airflow: Airflow, shell: Shell) -> None:
    browser = Browser(airflow, shell("cat /etc/airflow/secrets/admin-password"))
    assert browser.is_known
    cookies = {cookie.name: cookie.secure for cookie in browser.cookies}
    assert cookies == {"session": True, "_token": True}
    for path in ("/auth/login/", "/api/v2/auth/login", "/auth"):
        with browser.opener.open(airflow.url + path, timeout=20) as page:
            assert page.url.startswith(f"{airflow.url}/")


def test_the_timer_makes_another_certificate_and_nginx_shows_it(
    machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    before = shown(machine, *PORTS)
    shell(f"rm {tls.MADE} && systemctl start airflow-certificate")
    wait_for(lambda: shown(machine, *PORTS).isdisjoint(before), 20, "another certificate is shown")
    assert status(machine, PORTS["page"], "/api/v2/version", airflow.trusting) == 200
    assert deploy().changed == []


def test_what_nginx_can_not_read_is_not_loaded(machine: Machine, shell: Shell) -> None:
    more: dict[str, object] = {"airflow_host_names": ["another.example"]}
    before = shown(machine, *PORTS)
    shell(f"echo nonsense > {BROKEN}")
    run = deploy(settings=more)
    assert run.code != 0
    assert 'unexpected end of file, expecting ";" or "}"' in run.output
    assert shown(machine, *PORTS) == before
    shell(f"rm {BROKEN}")
    run = deploy(settings=more)
    assert run.code == 0, run.output
    assert run.changed == [
        "Proxy | Run nginx",
        "Timers | Write airflow-certificate.service",
        "Timers | Run the timers",
    ]
    assert shown(machine, *PORTS).isdisjoint(before)


def own_certificate(machine: Machine, shell: Shell) -> tuple[dict[str, Any], str]:
    """What the inventory says of one, and its authority, which nobody else knows."""
    folder = "/root/e2e-tls"
    shell(f"rm -rf {folder} && mkdir {folder} && {tls.PROGRAM} make {folder} {machine.address}")
    files = {"certificate": "x509", "key": "pkey"}
    texts = {name: shell(f"openssl {kind} -in {folder}/server.pem") for name, kind in files.items()}
    authority = shell(f"cat {folder}/ca.pem; rm -r {folder}")
    return {"airflow_web_certificate": texts}, authority


def test_an_own_certificate_is_for_the_page_if_it_can_be_read(
    machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    given, authority = own_certificate(machine, shell)
    before, key = shown(machine, *PORTS), given["airflow_web_certificate"]["key"].splitlines()[1]
    garbage = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
    broken: dict[str, object] = {
        "airflow_web_certificate": {**given["airflow_web_certificate"], "certificate": garbage}
    }
    run = deploy(settings=broken)
    assert run.code != 0
    assert "airflow_web_certificate: certificate can't be read" in run.output
    assert key not in run.output
    assert shown(machine, *PORTS) == before

    run = deploy("-vvv", "--diff", settings=given)
    assert run.code == 0, run.output
    assert key not in run.output
    # Pods go on with what they trust.
    assert not [name for name in run.changed if name.startswith(("Airflow | ", "Services | "))]
    assert shown(machine, "pods") <= before
    context = ssl.create_default_context(cadata=authority)
    assert status(machine, PORTS["page"], "/api/v2/version", context) == 200
    assert status(machine, PORTS["pods"], "/execution/health", airflow.trusting) == 200
    assert deploy(settings=given).changed == []
    assert deploy().changed
    assert shown(machine, *PORTS) == shown(machine, "pods")


def test_who_tries_passwords_is_slowed_down(
    machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    wrong = b'{"username": "admin", "password": "wrong"}'
    answers = [
        status(machine, PORTS["page"], "/auth/token", airflow.trusting, wrong)
        for attempt in range(30)
    ]
    assert answers[-1] == 429 and set(answers) == {401, 429}
    # Everything else goes on, and so do programs of the host itself.
    assert status(machine, PORTS["page"], "/api/v2/version", airflow.trusting) == 200
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_by_default_the_page_is_for_the_host_itself(
    machine: Machine, shell: Shell, tmp_path: Path
) -> None:
    run = deploy(settings=CLOSED)
    assert run.code == 0, run.output
    assert SMOKE_TEST in run.changed
    assert "ssh -L 8080:localhost:8080 the-host" in run.output
    assert [port for port in (443, 8080, 8081) if is_open(machine, port)] == [8081]
    # Browsers would not send them otherwise: there is no TLS.
    headers = shell("curl -fsSI http://localhost:8080/auth/login/").lower()
    assert re.search("set-cookie: session=.*httponly", headers)
    assert "secure" not in headers
    assert deploy(settings=CLOSED).changed == []
    inventory = inventory_with(CLOSED, tmp_path)
    for what in ("proxy", "services"):
        done = host_tests(machine, f"tests/host/test_{what}.py", AIRFLOW_INVENTORY=inventory)
        assert done.returncode == 0, done.stdout
