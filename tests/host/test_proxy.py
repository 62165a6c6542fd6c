"""nginx in front of Airflow: it serves the site, with a certificate that is trusted."""

from __future__ import annotations

import pytest

from tasks import tls
from tasks.kinds import Proxy
from tasks.proxy import UNIT
from tasks.services import STARTED_WITH
from tasks.settings import Settings, in_url
from tests.host.support import Host, Listener


@pytest.fixture
def proxy(settings: Settings) -> Proxy:
    """What the settings say of it."""
    if settings.airflow_proxy is None:
        pytest.skip("the inventory wants no proxy")
    return settings.airflow_proxy


def status(host: Host, settings: Settings, port: int, path: str) -> str:
    """With what a request is answered; 000 if the certificate is not trusted."""
    name = in_url(settings.airflow_address_for_pods or "localhost")
    proxy = settings.airflow_proxy
    trusted = f"--cacert {tls.AUTHORITY}" if proxy and proxy.authority_is_own else ""
    return str(
        host.run(
            f"curl -s --noproxy '*' -m 10 -o /dev/null -w '%{{http_code}}' {trusted}"
            f" --connect-to ::{settings.address_on_host(port)} https://{name}:{port}{path}"
        ).stdout
    )


def test_nginx_runs_with_its_inputs_as_they_are(host: Host, proxy: Proxy) -> None:
    said = host.check_output(f"systemctl is-active {UNIT}; systemctl is-enabled {UNIT}")
    assert said.split() == ["active", "enabled"]
    read = host.check_output(f"sha256sum --check {STARTED_WITH}/{UNIT}").splitlines()
    assert f"{tls.SERVER}: OK" in read and len(read) == 3


def test_people_and_pods_have_a_port_each(host: Host, settings: Settings, proxy: Proxy) -> None:
    answers = {
        (port, path): status(host, settings, port, path)
        for port in (proxy.port, proxy.pods_port)
        for path in ("/api/v2/version", "/execution/health")
    }
    assert answers == {
        (proxy.port, "/api/v2/version"): "200",
        (proxy.port, "/execution/health"): "404",
        (proxy.pods_port, "/api/v2/version"): "404",
        (proxy.pods_port, "/execution/health"): "200",
    }


def test_nginx_alone_listens_to_others(
    listeners: list[Listener], settings: Settings, proxy: Proxy
) -> None:
    holders = {each.process for each in listeners if each.port in (proxy.port, proxy.pods_port)}
    assert holders == {"nginx"}
    addresses = {each.address for each in listeners if each.port == settings.airflow_web_port}
    assert addresses == {"127.0.0.1"}


def test_a_certificate_of_the_hosts_is_for_its_names(
    host: Host, settings: Settings, proxy: Proxy
) -> None:
    if not tls.is_made(settings):
        pytest.skip("the certificate is the inventory's")
    assert host.run(tls.making("check", settings)).rc == 0
    assert host.run(f"{tls.making('check', settings)} no-such-name.example").rc == 1
