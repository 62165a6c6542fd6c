"""People reach the web page over TLS, if they should, and pods reach the Execution API."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasks import layout
from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.support import SLACK, Airflow, Browser, deploy, host_tests, inventory_with, log_in
from tests.sandbox.machine import Machine
from tests.support import wait_for

PORTS = {"page": 443, "pods": 8081}
CLOSED: dict[str, object] = {"web_host": "127.0.0.1"}  # the default
SMOKE_TEST = "Smoke test | Run a tiny DAG as a pod (about 10 s)"
BROKEN = "/etc/nginx/conf.d/e2e.conf"
MIB = 2**20
TEN_YEARS = timedelta(days=3650)
# Somebody's own site, and a welcome page that is not Debian's any more. A link as Debian makes it.
WELCOME = "/etc/nginx/sites-available/default"
SITES = {8090: "/etc/nginx/sites-available/e2e", 8091: WELCOME}
ENABLED = "/etc/nginx/sites-enabled"
SITE = """\
server {{
    listen {port};
    location / {{
        return 200 "site {port}";
    }}
}}
"""
# A certificate for an address, of an authority between it and the one that is trusted.
CHAIN = """
set -e
rm -rf {folder} && mkdir {folder} && cd {folder}
new='openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30'
authority='-addext keyUsage=critical,keyCertSign'
$new -subj /CN=root $authority -keyout root.key -out root.crt
$new -subj /CN=between $authority -CA root.crt -CAkey root.key -keyout between.key -out between.crt
$new -subj /CN=page -addext subjectAltName=IP:{address} -addext basicConstraints=critical,CA:FALSE \
-CA between.crt -CAkey between.key -keyout page.key -out page.crt
"""


def status(
    machine: Machine, port: int, path: str, context: ssl.SSLContext, body: bytes | None = None
) -> int:
    """The status that answers a request."""
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


@pytest.mark.parametrize(
    ("port", "path", "most"),
    [
        ("page", "/api/v2/variables", MIB),
        ("pods", "/execution/dag-runs/dag/run", MIB),
        ("pods", "/execution/xcoms/dag/run/task/key", 64 * MIB),
    ],
)
def test_a_request_may_have_1_mb_and_an_xcom_64(
    port: str, path: str, most: int, machine: Machine, airflow: Airflow
) -> None:
    """One byte more, nginx refuses by itself; this one Airflow does, for want of a token."""
    for length, sent, expected in ((most, most, 401), (most + 1, 0, 413)):
        connection = http.client.HTTPSConnection(
            machine.address, PORTS[port], timeout=60, context=airflow.trusting
        )
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        connection.send(bytes(sent))
        assert connection.getresponse().status == expected
        connection.close()


def test_cookies_are_for_tls_only_and_redirects_stay_there(airflow: Airflow, shell: Shell) -> None:
    browser = Browser(airflow, shell("cat /etc/airflow/secrets/admin-password"))
    assert browser.is_known
    cookies = {cookie.name: cookie.secure for cookie in browser.cookies}
    assert cookies == {"session": True, "_token": True}
    for path in ("/auth/login/", "/api/v2/auth/login", "/auth"):
        with browser.opener.open(airflow.url + path, timeout=20) as page:
            assert page.url.startswith(f"{airflow.url}/")


def test_no_page_elsewhere_has_airflows_in_a_frame(airflow: Airflow, shell: Shell) -> None:
    for path in ("/", "/auth/login/", "/execution/health"):  # nginx refuses the last one itself
        headers = shell(f"curl -sk -o /dev/null -D - {airflow.url}{path}").lower()
        assert headers.count("x-frame-options: sameorigin") == 1, path


def test_the_timer_makes_another_certificate_and_nginx_shows_it(
    machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    before = shown(machine, *PORTS)
    shell(f"rm {layout.CERTIFICATE} && systemctl start airflow-certificate")
    wait_for(
        lambda: shown(machine, *PORTS).isdisjoint(before),
        20 + SLACK,
        "another certificate is shown",
    )
    assert status(machine, PORTS["page"], "/api/v2/version", airflow.trusting) == 200
    assert deploy().changed == []


@pytest.fixture(scope="module")
def other_sites(shell: Shell) -> None:
    """nginx has other sites than Airflow's."""
    shell(f"cp {WELCOME} /root/welcome")
    for port, path in SITES.items():
        shell(f"cat > {path} <<'EOF'\n{SITE.format(port=port)}EOF\nln -s {path} {ENABLED}")
    shell("nginx -t -q && systemctl reload nginx")
    wait_for(
        lambda: set(map(partial(said_by, shell), SITES)) == {*SITES}, 10 + SLACK, "they answer"
    )


def said_by(shell: Shell, port: int) -> int:
    """Which of the sites answers at a port; 0 if none does."""
    said = shell(f"curl -s -m 5 http://127.0.0.1:{port}/ || true")
    return int(said.removeprefix("site ") or 0)


def test_what_nginx_can_not_read_is_not_loaded(
    other_sites: None, machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    task = ssl.create_default_context(cadata=shell(f"cat {layout.PODS_AUTHORITY}"))
    more: dict[str, object] = {"web_host_names": ["another.example"]}
    before = shown(machine, *PORTS)
    shell(f"echo nonsense > {BROKEN}")
    run = deploy(settings=more)
    assert run.code != 0
    assert 'unexpected end of file, expecting ";" or "}"' in run.output
    assert shown(machine, *PORTS) == before
    shell(f"rm {BROKEN}")
    run = deploy(settings=more)
    assert run.code == 0, run.output
    # The timer that renews the certificate reads the names there.
    assert "CERTIFICATE_NAMES=another.example" in shell("cat /etc/airflow/host.env").splitlines()
    recorded = "Timers | Record when certificates expire"
    assert run.changed == ["nginx | Start and enable nginx", recorded]
    assert shown(machine, *PORTS).isdisjoint(before)
    # A task that runs since then goes on. People import the authority with its new limit.
    assert status(machine, PORTS["pods"], "/execution/health", task) == 200
    with pytest.raises(urllib.error.URLError, match="permitted subtree violation"):
        status(machine, PORTS["page"], "/api/v2/version", airflow.trusting)
    del airflow.trusting
    assert status(machine, PORTS["page"], "/api/v2/version", airflow.trusting) == 200


def test_other_sites_stay_and_so_does_a_changed_welcome_page(
    other_sites: None, shell: Shell
) -> None:
    """After a deploy that wrote Airflow's site; as Debian has it, the welcome page goes."""
    assert [said_by(shell, port) for port in SITES] == [*SITES]
    shell(f"cp /root/welcome {WELCOME}")
    run = deploy()
    assert run.code == 0, run.output
    assert {"nginx | Disable nginx's welcome page", "nginx | Start and enable nginx"} <= {
        *run.changed
    }
    assert shell(f"ls {ENABLED}").split() == ["airflow", "e2e"]
    assert [said_by(shell, port) for port in SITES] == [8090, 0]
    assert shell("ss -Hltn sport = :80") == ""


def test_who_tries_passwords_is_slowed_down(
    machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    wrong = b'{"username": "admin", "password": "wrong"}'
    answers = [
        status(machine, PORTS["page"], "/auth/token", airflow.trusting, wrong)
        for attempt in range(30)
    ]
    assert answers[-1] == 429 and set(answers) == {401, 429}
    # Everything else works, and so do programs of the host itself.
    assert status(machine, PORTS["page"], "/api/v2/version", airflow.trusting) == 200
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_the_page_takes_ipv6_as_well(machine: Machine, airflow: Airflow, shell: Shell) -> None:
    """And IPv4 alone again. nginx can't move a port to another address while it runs."""
    where = "--resolve localhost:443:[::1] https://localhost/api/v2/version"
    ask = f"curl -6 -sS -m 10 --cacert {layout.AUTHORITY} {where} 2>&1"
    assert "Failed to connect" in shell(f"{ask} || true")
    given: dict[str, object] = {"web_host": "::"}
    run = deploy(settings=given)
    assert run.code == 0, run.output
    assert '"version"' in shell(ask)
    for port, path in (("page", "/api/v2/version"), ("pods", "/execution/health")):
        assert status(machine, PORTS[port], path, airflow.trusting) == 200
    assert deploy(settings=given).changed == []
    run = deploy()
    assert run.code == 0, run.output
    assert "Failed to connect" in shell(f"{ask} || true")
    assert status(machine, PORTS["page"], "/api/v2/version", airflow.trusting) == 200


def own_certificate(machine: Machine, shell: Shell) -> tuple[dict[str, Any], str]:
    """The settings of a certificate, and the authority that it leads to."""
    folder = "/root/e2e-tls"
    shell(CHAIN.format(folder=folder, address=machine.address))
    files = {"certificate": "page.crt between.crt", "key": "page.key"}
    texts = {name: shell(f"cd {folder} && cat {names}") for name, names in files.items()}
    given = example(
        "web_tls",
        files={"airflow.example.com.pem": texts["certificate"]},
        environ={"AIRFLOW_TLS_KEY": texts["key"]},
    )
    # Another address of the page would restart Airflow, which a certificate does not.
    return {"web_certificate": given["web_certificate"]}, shell(f"cat {folder}/root.crt")


def test_an_own_certificate_is_for_the_page_if_it_can_be_read(
    machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    given, authority = own_certificate(machine, shell)
    before, key = shown(machine, *PORTS), given["web_certificate"]["key"].splitlines()[1]
    garbage = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
    broken: dict[str, object] = {
        "web_certificate": {**given["web_certificate"], "certificate": garbage}
    }
    run = deploy(settings=broken)
    assert run.code != 0
    assert "web_certificate: certificate can't be read" in run.output
    assert key not in run.output
    assert shown(machine, *PORTS) == before

    run = deploy("-vvv", "--diff", settings=given)
    assert run.code == 0, run.output
    assert key not in run.output
    # Pods still trust the same authority.
    assert not [name for name in run.changed if name.startswith(("Airflow | ", "Services | "))]
    assert shown(machine, "pods") <= before
    context = ssl.create_default_context(cadata=authority)
    assert status(machine, PORTS["page"], "/api/v2/version", context) == 200
    assert status(machine, PORTS["pods"], "/execution/health", airflow.trusting) == 200
    assert deploy(settings=given).changed == []


def test_another_authority_is_made_if_it_is_taken_away(
    machine: Machine, airflow: Airflow, shell: Shell
) -> None:
    """And the page has the host's own certificate again, if the inventory has none."""
    old = shell(f"openssl x509 -noout -serial -dates -in {layout.AUTHORITY}")
    begin, end = (
        datetime.strptime(found, "%b %d %H:%M:%S %Y %Z")
        for found in re.findall("not(?:Before|After)=(.*)", old)
    )
    assert end - begin == TEN_YEARS
    shell(f"rm -r {layout.TLS}")
    run = deploy()
    assert run.code == 0, run.output
    assert shell(f"openssl x509 -noout -serial -dates -in {layout.AUTHORITY}") != old
    assert len(shown(machine, *PORTS)) == 1
    new = log_in(machine).trusting
    for port, path in (("page", "/api/v2/version"), ("pods", "/execution/health")):
        assert status(machine, PORTS[port], path, new) == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            status(machine, PORTS[port], path, airflow.trusting)
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_by_default_the_page_is_for_the_host_itself(
    machine: Machine, shell: Shell, tmp_path: Path
) -> None:
    run = deploy(settings=CLOSED)
    assert run.code == 0, run.output
    assert SMOKE_TEST in run.changed
    assert "ssh -L 8080:127.0.0.1:8080 the-host" in run.output
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


def test_back_to_a_page_for_others(machine: Machine) -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert SMOKE_TEST in run.changed
    assert [port for port in (443, 8080, 8081) if is_open(machine, port)] == [443, 8081]
    trusting = log_in(machine).trusting
    for port, path in (("page", "/api/v2/version"), ("pods", "/execution/health")):
        assert status(machine, PORTS[port], path, trusting) == 200
    assert deploy().changed == []
