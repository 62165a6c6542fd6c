"""nginx in front of Airflow: it serves the site, with a certificate that is trusted."""

from __future__ import annotations

from tasks import tls
from tasks.proxy import UNIT
from tasks.services import STARTED_WITH
from tasks.settings import LOOPBACK, Settings
from tests.host.support import Host, Listener

PATHS = ("/api/v2/version", "/execution/health")


def statuses(host: Host, address: str, trusted: str = "") -> dict[str, str]:
    """With what requests are answered, by path; 000 if the certificate is not trusted."""
    port = address.rpartition(":")[2]
    return {
        path: host.run(
            f"curl -s --noproxy '*' -m 10 -o /dev/null -w '%{{http_code}}' {trusted}"
            f" --connect-to ::{address} https://localhost:{port}{path}"
        ).stdout
        for path in PATHS
    }


def test_nginx_runs_with_its_inputs_as_they_are(host: Host, settings: Settings) -> None:
    said = host.check_output(f"systemctl is-active {UNIT}; systemctl is-enabled {UNIT}")
    assert said.split() == ["active", "enabled"]
    read = host.check_output(f"sha256sum --check {STARTED_WITH}/{UNIT}").splitlines()
    assert {f"{tls.MADE}: OK", f"{tls.of_page(settings)}: OK"} < set(read)


def test_pods_have_a_port_with_nothing_but_the_execution_api(
    host: Host, settings: Settings
) -> None:
    said = statuses(host, f"{LOOPBACK}:{settings.airflow_pods_port}", f"--cacert {tls.AUTHORITY}")
    assert said == dict(zip(PATHS, ("404", "200"), strict=True))


def test_people_have_a_port_without_it_if_they_are_to(
    host: Host, settings: Settings, listeners: list[Listener]
) -> None:
    if not settings.page_is_public:
        assert not [each for each in listeners if each.port == settings.airflow_https_port]
        return
    # One's own may be for a name that the host does not know; which it shows, browsers see.
    own = settings.airflow_web_certificate
    trusted = "--insecure" if own else f"--cacert {tls.AUTHORITY}"
    said = statuses(host, settings.page_on_host, trusted)
    assert said == dict(zip(PATHS, ("200", "404"), strict=True))


def test_nginx_alone_listens_to_others(listeners: list[Listener], settings: Settings) -> None:
    ports = [settings.airflow_pods_port]
    if settings.page_is_public:
        ports.append(settings.airflow_https_port)
    holders = {each.port: each.process for each in listeners if each.port in ports}
    assert holders == dict.fromkeys(ports, "nginx")


def test_the_certificate_is_for_the_hosts_names(host: Host, settings: Settings) -> None:
    assert host.run(tls.making("check", settings)).rc == 0
    assert host.run(f"{tls.making('check', settings)} no-such-name.example").rc == 1
