"""nginx stands in front of Airflow with TLS, for people and for pods, and is taken away again."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tasks import tls
from tasks.settings import ROOT
from tests.e2e.conftest import Shell
from tests.e2e.support import (
    Airflow,
    Browser,
    deploy,
    host_tests,
    log_in,
    machine_name,
    wait_for,
)
from tests.sandbox.machine import Machine

PORTS = {"page": 443, "pods": 8081}
MADE: dict[str, object] = {"airflow_proxy": {"names": ["airflow.example"]}}
INVENTORY = f"""\
import sys

sys.path.insert(0, {str(ROOT)!r})
from tests.sandbox import inventory

name, data = inventory.host({machine_name()!r})
hosts = [(name, data | {MADE!r})]
"""
SMOKE_TEST = "Smoke test | Run a tiny DAG as a pod (about 10 s)"
BROKEN = "/etc/nginx/conf.d/e2e.conf"
AUTHORITY = "/root/e2e-ca.pem"


@pytest.fixture(scope="module", autouse=True)
def proxy(shell: Shell) -> Iterator[None]:
    """The proxy with a certificate of the machine's own; afterwards it is taken away again."""
    run = deploy(settings=MADE)
    assert run.code == 0, run.output
    assert {"Proxy | Make the certificate", "Proxy | Run nginx", SMOKE_TEST} <= set(run.changed)
    assert "The web page is at https://the-host." in run.output
    yield
    shell(f"rm -f {BROKEN} {AUTHORITY}")
    run = deploy()
    assert run.code == 0, run.output
    assert "Proxy | Remove the proxy" in run.changed
    assert shell("ss -Hltn '( sport = :443 or sport = :8081 )'") == ""
    assert shell(f"ls -d {tls.FOLDER} /etc/nginx/sites-*/airflow 2>/dev/null || true") == ""
    assert deploy().changed == []


@pytest.fixture(scope="module")
def trusting(shell: Shell) -> ssl.SSLContext:
    """Trusts the machine's authority, and nobody else."""
    return ssl.create_default_context(cadata=shell(f"cat {tls.AUTHORITY}"))


@pytest.fixture(scope="module")
def secure(machine: Machine, trusting: ssl.SSLContext) -> Airflow:
    """The REST API as it is reached from outside."""
    return log_in(machine, trusting)


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


def shown(machine: Machine) -> set[str]:
    """The certificates that the two ports show."""
    return {ssl.get_server_certificate((machine.address, port)) for port in PORTS.values()}


def test_second_run_changes_nothing() -> None:
    assert deploy(settings=MADE).changed == []


def test_the_hosts_own_tests_pass(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("inventory") / "inventory.py"
    path.write_text(INVENTORY)
    for what in ("proxy", "secrets", "services", "system"):
        done = host_tests(machine, f"tests/host/test_{what}.py", AIRFLOW_INVENTORY=str(path))
        assert done.returncode == 0, done.stdout


def test_only_nginxs_site_is_reached_from_outside(
    machine: Machine, shell: Shell, trusting: ssl.SSLContext
) -> None:
    page = PORTS["page"]
    assert shell("ss -Hltn sport = :80") == "", "Debian's welcome page is there"
    with urllib.request.urlopen(f"https://{machine.address}/", timeout=20, context=trusting) as it:
        assert "<title>Airflow" in it.read().decode()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((machine.address, 8080), timeout=5)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        status(machine, page, "/", ssl.create_default_context())


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
    port: str, path: str, expected: int, machine: Machine, trusting: ssl.SSLContext
) -> None:
    assert status(machine, PORTS[port], path, trusting) == expected


def test_cookies_are_for_tls_only_and_redirects_stay_there(
    secure: Airflow, shell: Shell, trusting: ssl.SSLContext
) -> None:
    browser = Browser(secure.url, shell("cat /etc/airflow/secrets/admin-password"), trusting)
    assert browser.is_known
    cookies = {cookie.name: cookie.secure for cookie in browser.cookies}
    assert cookies == {"session": True, "_token": True}
    for path in ("/auth/login/", "/api/v2/auth/login", "/auth"):
        with browser.opener.open(secure.url + path, timeout=20) as page:
            assert page.url.startswith(f"{secure.url}/")


def test_a_task_runs_as_a_pod_and_its_log_is_read_over_tls(secure: Airflow, shell: Shell) -> None:
    assert f"https://$(HOST_IP):{PORTS['pods']}/execution/" in shell(
        "cat /etc/airflow/pod_template.yaml"
    )
    run = secure.trigger("airflow_smoke_test")
    ended = ("success", "failed")
    wait_for(lambda: secure.run_state("airflow_smoke_test", run) in ended, 90, "the run ends")
    assert secure.run_state("airflow_smoke_test", run) == "success"
    assert "Hello from a pod" in secure.log("airflow_smoke_test", run, "greet")


def test_the_timer_makes_another_certificate_and_nginx_shows_it(
    machine: Machine, shell: Shell, trusting: ssl.SSLContext
) -> None:
    before = shown(machine)
    shell(f"rm {tls.SERVER} && systemctl start airflow-certificate")
    wait_for(lambda: shown(machine).isdisjoint(before), 20, "another certificate is shown")
    assert status(machine, PORTS["page"], "/api/v2/version", trusting) == 200
    assert deploy(settings=MADE).changed == []


def test_what_nginx_can_not_read_is_not_loaded(machine: Machine, shell: Shell) -> None:
    more: dict[str, object] = {"airflow_proxy": {"names": ["airflow.example", "another.example"]}}
    before = shown(machine)
    shell(f"echo nonsense > {BROKEN}")
    run = deploy(settings=more)
    assert run.code != 0
    assert 'unexpected end of file, expecting ";" or "}"' in run.output
    assert shown(machine) == before
    shell(f"rm {BROKEN}")
    run = deploy(settings=more)
    assert run.code == 0, run.output
    assert run.changed == [
        "Proxy | Run nginx",
        "Timers | Write airflow-certificate.service",
        "Timers | Run the timers",
    ]
    assert len(before | shown(machine)) == 2


def own_certificate(machine: Machine, shell: Shell) -> dict[str, Any]:
    """What the inventory says of one, of an authority that nobody else knows."""
    folder = "/root/e2e-tls"
    shell(f"rm -rf {folder} && mkdir {folder} && {tls.PROGRAM} make {folder} {machine.address}")
    shell(f"cp {folder}/ca.pem {AUTHORITY}")
    files = {"certificate": "certificate", "key": "key", "ca_certificate": AUTHORITY}
    shell(f"cd {folder} && openssl x509 -in server.pem -out certificate")
    shell(f"cd {folder} && openssl pkey -in server.pem -out key")
    texts = {name: shell(f"cd {folder} && cat {path}") + "\n" for name, path in files.items()}
    shell(f"rm -r {folder}")
    return {"airflow_proxy": texts, "airflow_address_for_pods": machine.address}


def test_an_own_certificate_takes_the_place_of_the_hosts_if_it_can_be_read(
    machine: Machine, shell: Shell
) -> None:
    given = own_certificate(machine, shell)
    before, key = shown(machine), given["airflow_proxy"]["key"].splitlines()[1]
    garbage = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
    broken = {**given, "airflow_proxy": {**given["airflow_proxy"], "certificate": garbage}}
    run = deploy(settings=broken)
    assert run.code != 0
    assert "airflow_proxy: certificate can't be read" in run.output and key not in run.output
    assert shown(machine) == before

    run = deploy("-vvv", "--diff", settings=given)
    assert run.code == 0, run.output
    assert {SMOKE_TEST, "Timers | Remove airflow-certificate"} <= set(run.changed)
    assert key not in run.output
    # The smoke test's pod has trusted it.
    context = ssl.create_default_context(cadata=given["airflow_proxy"]["ca_certificate"])
    assert status(machine, PORTS["page"], "/api/v2/version", context) == 200
    assert shell(f"test -e {tls.AUTHORITYS_KEY} && echo there || echo gone") == "gone"
    assert deploy(settings=given).changed == []


def test_who_tries_passwords_is_slowed_down(machine: Machine, shell: Shell) -> None:
    context = ssl.create_default_context(cadata=shell(f"cat {tls.AUTHORITY}"))
    wrong = b'{"username": "admin", "password": "wrong"}'
    answers = [
        status(machine, PORTS["page"], "/auth/token", context, wrong) for attempt in range(30)
    ]
    assert answers[-1] == 429 and answers[0] == 401
    # Everything else goes on, and so do programs of the host itself.
    assert status(machine, PORTS["page"], "/api/v2/version", context) == 200
    assert "a task ran as a pod" in shell("airflow-smoke-test")
