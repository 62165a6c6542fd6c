"""nginx in front of Airflow: it serves the site, with a certificate that is trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import Facts, Host, Listener, only_if

UNIT = "nginx.service"
EXECUTION_API, REST_API = "/execution/health", "/api/v2/version"
# The host's own certificate, the web page's own, and the authority's certificate.
MADE, GIVEN, AUTHORITY, PODS_AUTHORITY = (
    f"/etc/airflow/tls/{name}.pem" for name in ("server", "web", "ca", "pods-ca")
)


on_each_port = pytest.mark.parametrize(
    "port",
    [
        "pods",
        pytest.param(
            "page",
            marks=only_if(
                lambda facts: expected.page_is_open(facts.settings),
                "the web page is for this host only",
            ),
        ),
    ],
)
if_made = only_if(
    lambda facts: not expected.page_has_own_certificate(facts.settings),
    "the inventory gives the web page's certificate",
)
if_given = only_if(
    lambda facts: expected.page_has_own_certificate(facts.settings),
    "the web page has no certificate of the inventory",
)


def test_nginx_runs_with_its_inputs_as_they_are(
    units: dict[str, dict[str, str]], host: Host, settings: HostSettings
) -> None:
    assert (units[UNIT]["ActiveState"], units[UNIT]["UnitFileState"]) == ("active", "enabled")
    lines = host.check_output(f"sha256sum --check /run/airflow/{UNIT}").splitlines()
    read = {
        "/etc/nginx/sites-available/airflow",
        "/etc/systemd/system/nginx.service.d/airflow.conf",
        MADE,
        GIVEN if settings.web.certificate else MADE,
    }
    assert set(lines) == {f"{path}: OK" for path in read}


@on_each_port
def test_each_port_has_just_its_own_paths(port: str, proxy: dict[str, Any]) -> None:
    wanted = {
        "pods": {EXECUTION_API: 200, REST_API: 404},
        "page": {EXECUTION_API: 404, REST_API: 200},
    }
    assert proxy["statuses"][port] == wanted[port]


@on_each_port
def test_a_request_may_have_1_mb(port: str, proxy: dict[str, Any]) -> None:
    # 100: go on and send it.
    assert proxy["bodies"][port] == ["100", "413"]


def test_an_xcom_of_a_task_may_have_64_mb(proxy: dict[str, Any]) -> None:
    assert proxy["xcoms"] == ["100", "413"]


@only_if(lambda facts: facts.sites, "nginx has no other site")
def test_other_sites_of_nginx_are_served(
    proxy: dict[str, Any], listeners: list[Listener], facts: Facts
) -> None:
    nginx = {each.port for each in listeners if each.who == "nginx.service"}
    for site in facts.sites:
        assert site in proxy["listens"]
        ports = {where.rpartition(":")[2] for where in proxy["listens"][site]}
        assert ports <= nginx, site


@pytest.fixture(scope="module")
def certificates(proxy: dict[str, Any]) -> dict[str, list[x509.Certificate]]:
    """The certificates in the host's files, and those that its ports show."""
    return {
        where: [x509.load_pem_x509_certificate(text.encode()) for text in texts]
        for where, texts in {**proxy["kept"], **proxy["shown"]}.items()
    }


def test_pods_are_shown_the_hosts_own_certificate(
    certificates: dict[str, list[x509.Certificate]],
) -> None:
    assert certificates["pods"] == certificates[MADE]


def _names(certificate: x509.Certificate) -> set[str]:
    value = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = value.get_values_for_type(x509.IPAddress)
    return {*value.get_values_for_type(x509.DNSName), *map(str, addresses)}


def test_the_certificate_is_for_the_hosts_names(
    certificates: dict[str, list[x509.Certificate]], proxy: dict[str, Any], settings: HostSettings
) -> None:
    given = [
        urlsplit(settings.web.base_url or "").hostname,
        settings.execution_api.host,
        *settings.web.host_names,
    ]
    (certificate,) = certificates[MADE]
    wanted = {"localhost", "127.0.0.1", *proxy["names"], *filter(None, given)}
    # A name that is wanted no longer stays until there is another reason for a new certificate.
    assert wanted <= _names(certificate)


def test_the_certificate_is_for_servers_and_in_time(
    certificates: dict[str, list[x509.Certificate]],
) -> None:
    (certificate,) = certificates[MADE]
    for authority in (*certificates[AUTHORITY], *certificates[PODS_AUTHORITY]):
        certificate.verify_directly_issued_by(authority)
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    # It is renewed 30 days before its end, by a timer that looks each day.
    assert certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=29)
    # https://support.apple.com/en-us/103769: no client takes one that holds longer.
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=825)


def test_the_authority_of_people_can_sign_for_this_host_only(
    certificates: dict[str, list[x509.Certificate]],
) -> None:
    (certificate,), (authority,) = certificates[MADE], certificates[AUTHORITY]
    limit = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert limit.critical and limit.value.permitted_subtrees
    # It keeps a name that is not wanted any more as long as the certificate does, or longer.
    named = {str(each.value) for each in limit.value.permitted_subtrees}
    assert {name.partition("/")[0] for name in named} >= _names(certificate)
    assert all(name.endswith(("/32", "/128")) for name in named if "/" in name)


@pytest.mark.parametrize("which", [AUTHORITY, PODS_AUTHORITY])
def test_the_authority_holds_for_ten_years(
    certificates: dict[str, list[x509.Certificate]], which: str
) -> None:
    (authority,) = certificates[which]
    assert authority.not_valid_after_utc - authority.not_valid_before_utc == timedelta(days=3650)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)


@if_made
@only_if(lambda facts: expected.page_is_open(facts.settings), "the web page is for this host only")
def test_people_are_shown_the_hosts_own_certificate(
    certificates: dict[str, list[x509.Certificate]],
) -> None:
    assert certificates["page"] == certificates[MADE]


@if_given
def test_people_are_shown_the_certificate_of_the_inventory(
    certificates: dict[str, list[x509.Certificate]], settings: HostSettings
) -> None:
    given = settings.web.certificate
    assert given is not None
    assert certificates["page"] == x509.load_pem_x509_certificates(given.certificate.encode())


def test_pods_trust_the_authority(
    host: Host, proxy: dict[str, Any], settings: HostSettings
) -> None:
    for namespace in (settings.kubernetes.namespace, *settings.kubernetes.extra_namespaces):
        get = f"{settings.kubectl} -n {namespace} get configmap airflow-authority"
        text = host.check_output(f"{get} -o jsonpath='{{.data.ca\\.pem}}'")
        assert [text] == proxy["kept"][PODS_AUTHORITY]
