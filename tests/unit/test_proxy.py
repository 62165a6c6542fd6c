"""nginx in front of the api-server, the certificate that it shows, and the trust in it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tasks import layout
from tasks.layout import ROOT
from tests.unit import fake, formats, stand_ins
from tests.unit.fake import Plan
from tests.unit.formats import Unit

PUBLIC = fake.VARIANTS["page with TLS"]
OWN = fake.VARIANTS["page with an own certificate"]
SITE = "/etc/nginx/sites-available/airflow"
UNITS = "/etc/systemd/system"


def plan_of(given: dict[str, Any]) -> Plan:
    """The plan of the deploy."""
    return fake.plan(fake.settings(given))


def servers(plan: Plan) -> tuple[str, str]:
    """The parts of the site for pods and for people."""
    _, pods, page = re.split(r"^server {$", plan.uploads[SITE], flags=re.M)
    return pods, page


# Listeners


@pytest.mark.parametrize(
    ("given", "listens"),
    [
        ({}, ["0.0.0.0:8081 ssl deferred"]),
        ({"web_host": "localhost"}, ["0.0.0.0:8081 ssl deferred"]),
        ({"execution_api_host": "2001:db8::7"}, ["[::]:8081 ssl deferred ipv6only=off"]),
        ({"web_host": "0.0.0.0"}, ["0.0.0.0:8081 ssl deferred", "0.0.0.0:443 ssl deferred"]),
        (
            {"web_host": "::"},
            ["[::]:8081 ssl deferred ipv6only=off", "[::]:443 ssl deferred ipv6only=off"],
        ),
        ({"web_host": "192.0.2.7"}, ["0.0.0.0:8081 ssl deferred", "192.0.2.7:443 ssl deferred"]),
    ],
)
def test_only_nginx_listens_to_others(given: dict[str, Any], listens: list[str]) -> None:
    plan = plan_of(given)
    assert re.findall(r"^    listen (.*);$", plan.uploads[SITE], re.M) == listens
    assert set(re.findall("proxy_pass (.*);", plan.uploads[SITE])) == {"http://127.0.0.1:78"}
    config = formats.airflow_config(plan.uploads["/etc/airflow/airflow.cfg"])
    assert config["api"]["host"] == "127.0.0.1"
    assert config["core"]["execution_api_server_url"] == "http://127.0.0.1:78/execution/"
    liveness = Unit.of(plan, "airflow-liveness.service")
    assert liveness.one("Service.IPAddressAllow") == "127.0.0.1"


def test_nobody_keeps_a_place_of_nginx_by_saying_little() -> None:
    for server in servers(plan_of(PUBLIC)):
        assert "    client_header_timeout 5s;\n" in server
        assert re.search(r"^    listen .* deferred", server, re.M)


def test_a_client_can_not_choose_its_address_nor_an_old_tls() -> None:
    for plan in (plan_of(PUBLIC), fake.plan(fake.several(1))):
        site = plan.uploads["/etc/nginx/sites-available/airflow"]
        assert {*re.findall(r"X-Forwarded-For (.*);", site)} == {"$remote_addr"}
        assert {*re.findall(r"ssl_protocols (.*);", site)} == {"TLSv1.2 TLSv1.3"}


def test_no_page_elsewhere_has_airflows_in_a_frame() -> None:
    for given in (PUBLIC, OWN):
        _, page = servers(plan_of(given))
        # nginx ignores it for a location that has one of its own.
        assert re.findall("^ *add_header .*", page, re.M) == [
            "    add_header X-Frame-Options SAMEORIGIN always;"
        ]


def test_all_of_airflow_is_below_the_path_of_its_address() -> None:
    plan = plan_of(OWN)
    pods, page = servers(plan)
    assert {*re.findall("proxy_pass (.*);", pods)} == {"http://127.0.0.1:78/team$request_uri"}
    assert re.findall("proxy_pass (.*);", page) == ["http://127.0.0.1:78"]
    config = formats.airflow_config(plan.uploads["/etc/airflow/airflow.cfg"])
    assert config["core"]["execution_api_server_url"] == "http://127.0.0.1:78/team/execution/"
    (ready,) = Unit.of(plan, "airflow-api-server.service").commands("Service.ExecStartPost")
    assert ready[-1] == "http://127.0.0.1:78/team/execution/health"


@pytest.mark.parametrize(("given", "wanted"), [(PUBLIC, True), ({}, False)])
def test_airflow_believes_the_proxy_and_its_cookies_are_secure(
    given: dict[str, Any], wanted: bool
) -> None:
    plan = plan_of(given)
    (words,) = Unit.of(plan, "airflow-api-server.service").commands("Service.ExecStart")
    assert words[1:] == ["api-server", *(["--proxy-headers"] if wanted else [])]
    config = formats.airflow_config(plan.uploads["/etc/airflow/airflow.cfg"])
    assert config.getboolean("fab", "cookie_secure", fallback=False) is wanted


def test_logins_are_limited_under_the_path_of_airflows_address_too() -> None:
    for given, path in ((PUBLIC, "/auth/token"), (OWN, "/team/auth/login/")):
        site = plan_of({**given}).uploads[SITE]
        (limited,) = re.findall(r'"~(\^POST .*)" \$binary_remote_addr;', site)
        assert re.search(limited, f"POST {path}")
        assert not re.search(limited, f"GET {path}") and not re.search(limited, "POST /api/v2/dags")
    other = plan_of({**PUBLIC, "web_logins_per_minute": 3})
    assert "rate=3r/m;" in other.uploads[SITE] and "burst=3 nodelay;" in servers(other)[1]
    assert "limit_req " not in servers(other)[0]


@pytest.mark.parametrize(
    ("given", "path", "refused"),
    [
        (PUBLIC, "/execution", True),
        (PUBLIC, "/execution/health", True),
        (PUBLIC, "/dags/execution/runs", False),
        (PUBLIC, "/executions", False),
        (OWN, "/team/execution/health", True),
        (OWN, "/execution/health", True),
        (OWN, "/other/execution/health", False),
    ],
)
def test_the_page_has_no_execution_api(given: dict[str, Any], path: str, refused: bool) -> None:
    pods, page = servers(plan_of(given))
    (expression,) = re.findall('location ~ "(.*)" {\n        return 404;', page)
    assert bool(re.search(expression, path)) is refused
    assert re.findall(r"location (\S+) {\n +(\w+)", pods) == [
        ("/", "return"),
        ("/execution/", "proxy_pass"),
        ("/execution/xcoms/", "client_max_body_size"),
    ]


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/dags/../execution/health", True),
        ("/dags/%2E%2e/execution", True),
        ("/dags/..%2Fexecution", True),
        ("/dags/..", True),
        ("/dags/a..b/runs", False),
        ("/dags?search=/../x", False),
    ],
)
def test_paths_that_airflow_reads_in_another_way_are_refused(path: str, refused: bool) -> None:
    for server in servers(plan_of(PUBLIC)):
        (expression,) = re.findall(r'if \(\$request_uri ~\* "(.*)"\)', server)
        assert bool(re.search(expression, path, re.I)) is refused


def test_a_policy_lets_pods_reach_their_port() -> None:
    given = {"kubernetes_network_policy": True, "execution_api_host": "192.0.2.7"}
    objects = json.loads(plan_of(given).uploads[layout.KUBERNETES_OBJECTS])["items"]
    (policy,) = (each for each in objects if each["kind"] == "NetworkPolicy")
    ports = [port for rule in policy["spec"]["egress"] for port in rule["ports"]]
    assert {"protocol": "TCP", "port": 8081} in ports
    assert 8080 not in [port["port"] for port in ports]


def test_a_start_and_a_reload_record_the_files_that_nginx_reads() -> None:
    plan = plan_of(PUBLIC)
    unit = Unit.parse(plan.uploads[f"{UNITS}/nginx.service.d/airflow.conf"])
    (record,) = {unit.one("Service.ExecStartPre"), unit.one("Service.ExecReload")}
    files, into = record.rstrip("'").split("sha256sum ", 1)[1].split(" > ")
    read = re.findall("ssl_certificate(?:_key)? (.*);", plan.uploads[SITE])
    assert set(files.split()) == {f"{UNITS}/nginx.service.d/airflow.conf", SITE, *read}
    assert into == f"{formats.host_values(plan)['STARTED_WITH']}/%n"
    assert any("nginx.sh check" in fact for fact in plan.facts)
    assert "check_unit" in (ROOT / "files/usr/local/lib/airflow/nginx.sh").read_text()
    renewal, _ = Unit.of(plan, "airflow-certificate.service").all("Service.ExecStartPost")
    assert f"{layout.LIB}/run-unit.sh check {layout.NGINX_UNIT} || " in renewal


# Trust


@pytest.mark.parametrize("given", [{}, PUBLIC, OWN])
def test_pods_are_told_the_hosts_authority(given: dict[str, Any]) -> None:
    plan = plan_of(given)
    spec = formats.pod(plan)["spec"]
    environment = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    path = Path(environment["AIRFLOW__API__SSL_CERT"])
    mounts = {each["mountPath"]: each["name"] for each in spec["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each.get("configMap") for each in spec["volumes"]}
    assert volumes[mounts[str(path.parent)]] == {"name": layout.AUTHORITY_CONFIG_MAP}
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].startswith("https://")


def test_browsers_see_an_own_certificate_and_pods_do_not() -> None:
    shows = [
        set(re.findall("ssl_certificate(?:_key)? (.*);", server))
        for server in servers(plan_of(OWN))
    ]
    assert shows == [{layout.CERTIFICATE}, {layout.WEB_CERTIFICATE}]


def test_a_template_of_ones_own_gets_it_too(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "{kind: Pod, spec: {restartPolicy: Never, serviceAccountName: airflow-worker,"
        " securityContext: {runAsUser: 50000}, volumes: [{name: own, emptyDir: {}}],"
        " containers: [{name: base, volumeMounts: [{name: own, mountPath: /own}]}]}}"
    )
    spec = formats.pod(plan_of({"worker_pod_template": str(path)}))["spec"]
    assert [each["name"] for each in spec["volumes"]] == ["own", "authority"]
    mounts = spec["containers"][0]["volumeMounts"]
    assert [each["mountPath"] for each in mounts] == ["/own", "/opt/airflow/tls"]
    path.write_text(path.read_text().replace("own, emptyDir: {}", "authority, secret: {}"))
    spec = formats.pod(plan_of({"worker_pod_template": str(path)}))["spec"]
    assert spec["volumes"] == [{"name": "authority", "secret": {}}]


# The certificate that the host makes


class Maker:
    """The program, with a folder of its own; the host's names are stood in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder / "tls", stand_ins.Host(folder)
        self.folder.mkdir()
        self.program = self.host.program
        self.program("hostname", 'test "$*" || echo me; test -z "$*" || echo me.example')
        self.program("ip", "echo '192.0.2.1 via 192.0.2.254 dev eth0 src 192.0.2.7 uid 0'")

    def run(self, action: str, *names: str, options: Sequence[str] = ()) -> int:
        """Run it; returns its status."""
        words = [action, *options, str(self.folder), *names]
        done = self.host.run("host-certificate.py", *words)
        assert done.stdout == ""
        # Only a check says something: one sentence.
        said = len(done.stderr.splitlines())
        assert said == (1 if (action, done.returncode) == ("check", 1) else 0), done.stderr
        return done.returncode

    def made(self, *names: str) -> tuple[str, str]:
        """Authority and certificate after it has run, as it says itself that they are right."""
        assert self.run("apply", *names) == 0
        assert self.run("check", *names) == 0
        return tuple((self.folder / name).read_text() for name in ("ca.pem", "server.pem"))  # type: ignore[return-value]

    def openssl(self, command: str, *more: str) -> None:
        """Run openssl in the folder."""
        words = ["openssl", *command.split(), *more]
        subprocess.run(words, cwd=self.folder, check=True, capture_output=True)

    def says_hello(self, authority: str, name: str) -> None:
        """Connect as a client of Python that trusts an authority; it fails if it must not."""
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(self.folder / "server.pem")
        client = ssl.create_default_context(cafile=str(self.folder / authority))
        here, there = socket.socketpair()

        def serve() -> None:
            try:
                server.wrap_socket(there, server_side=True).close()
            except OSError:
                there.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with here:
                client.wrap_socket(here, server_hostname=name).close()
        finally:
            thread.join()

    def holds_for(self, option: str, name: str) -> bool:
        """Whether a strict client trusts it under a name."""
        verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"]
        command = [*verify, option, name, "server.pem"]
        return not subprocess.run(command, cwd=self.folder, capture_output=True).returncode


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """An empty one."""
    return Maker(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one makes without names. Nobody may change it."""
    first = Maker(tmp_path_factory.mktemp("made"))
    first.made()
    return first.folder


@pytest.fixture
def full(maker: Maker, made: Path) -> Maker:
    """One that has made this."""
    shutil.copytree(made, maker.folder, dirs_exist_ok=True)
    return maker


def test_a_certificate_holds_for_the_hosts_names_and_those_given(maker: Maker) -> None:
    assert maker.run("check") == 1
    maker.made("airflow.example", "2001:db8::7", "localhost")
    for name in ("me", "me.example", "localhost", "airflow.example"):
        assert maker.holds_for("-verify_hostname", name)
    for address in ("127.0.0.1", "192.0.2.7", "2001:db8::7"):
        assert maker.holds_for("-verify_ip", address)
    assert not maker.holds_for("-verify_hostname", "other.example")
    modes = {path.name: path.stat().st_mode & 0o777 for path in maker.folder.iterdir()}
    assert modes == {
        **{"ca.pem": 0o644, "pods-ca.pem": 0o644},
        **{"ca-key.pem": 0o600, "server.pem": 0o600},
    }


def test_the_authority_holds_ten_years_and_a_certificate_as_long_as_browsers_take_one(
    made: Path,
) -> None:
    days = []
    for name in ("ca.pem", "server.pem"):
        certificate = x509.load_pem_x509_certificate((made / name).read_bytes())
        days.append((certificate.not_valid_after_utc - certificate.not_valid_before_utc).days)
    # https://support.apple.com/en-us/103769
    assert days[0] == 3650 and 90 < days[1] <= 825


@pytest.mark.parametrize("name", ["ca.pem", "pods-ca.pem", "server.pem"])
def test_the_authority_vouches_for_servers_only(name: str, made: Path) -> None:
    """Also one that no list of names limits signs neither mail, nor programs, nor clients."""
    certificate = x509.load_pem_x509_certificate((made / name).read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert [*usage.value] == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_no_key_is_open_to_others_while_the_certificate_is_made(maker: Maker) -> None:
    modes = maker.folder.parent / "modes"
    look = f"find {maker.folder} -name '*key*' -printf '%m\\n' >>{modes}"
    maker.program("openssl", f'{look}\nexec /usr/bin/openssl "$@"')
    maker.made()
    assert {*modes.read_text().splitlines()} == {"600"}


def test_a_certificate_is_made_again_only_if_it_must_be(maker: Maker) -> None:
    authority, first = maker.made("airflow.example")
    assert maker.made("airflow.example") == (authority, first)
    # A name that is wanted no longer does no harm, and the name service may be away.
    maker.program("hostname", 'test -z "$*" && echo me')
    assert maker.made() == (authority, first)
    of_pods = (maker.folder / "pods-ca.pem").read_text()
    other, second = maker.made("other.example")
    assert other != authority and second != first
    maker.program("ip", "echo '192.0.2.1 dev eth0 src 192.0.2.8 uid 0'")
    _, third = maker.made("other.example")
    assert third != second and maker.holds_for("-verify_ip", "192.0.2.8")
    # A running task goes on, whatever the host's names were when it started.
    assert (maker.folder / "pods-ca.pem").read_text() == of_pods
    maker.says_hello("pods-ca.pem", "192.0.2.8")


def test_a_host_with_several_addresses_has_a_certificate_for_that_of_the_node(full: Maker) -> None:
    """minikube does not ask which address the host prefers, as `src` of a route says it."""
    full.program(
        "ip",
        """case "$*" in
*"route get"*) echo '192.0.2.1 via 192.0.2.254 dev eth0 src 198.51.100.9 uid 0' ;;
*"route show default")
    echo 'default via 192.0.2.254 dev eth0 proto dhcp src 198.51.100.9 metric 100'
    echo 'default via 203.0.113.1 dev eth1 metric 200' ;;
*"addr show dev eth0 scope global")
    echo '2: eth0    inet 192.0.2.3/24 brd 192.0.2.255 scope global eth0'
    echo '2: eth0    inet 198.51.100.9/32 scope global eth0' ;;
*) exit 1 ;;
esac""",
    )
    full.made()
    for address in ("192.0.2.3", "198.51.100.9"):
        assert full.holds_for("-verify_ip", address)
        full.says_hello("pods-ca.pem", address)
    assert not full.holds_for("-verify_ip", "203.0.113.7")


def test_people_who_know_the_authority_trust_it_for_this_host_only(maker: Maker) -> None:
    """The attack: a thief has the authority's key, and signs for another server."""
    maker.made("airflow.example", "2001:db8::7")
    for name in ("airflow.example", "me", "127.0.0.1", "192.0.2.7", "2001:db8::7"):
        maker.says_hello("ca.pem", name)
        maker.says_hello("pods-ca.pem", name)
    ours = (maker.folder / "server.pem").read_text()
    for name in ("DNS:bank.example", "IP:192.0.2.9", "IP:2001:db8::8", "DNS:xairflow.example"):
        (maker.folder / "more").write_text(
            f"subjectAltName = {name}\nextendedKeyUsage=serverAuth\n"
        )
        maker.openssl(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout key -subj /CN=x"
            " -out request"
        )
        maker.openssl(
            "x509 -req -in request -CA ca.pem -CAkey ca-key.pem -extfile more -days 9 -out forged"
        )
        forged = "".join((maker.folder / each).read_text() for each in ("forged", "key"))
        (maker.folder / "server.pem").write_text(forged)
        maker.says_hello("pods-ca.pem", name.partition(":")[2])  # so only the limit is in its way
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            maker.says_hello("ca.pem", name.partition(":")[2])
    assert maker.made("airflow.example", "2001:db8::7")[1] not in (ours, forged)


def test_a_host_of_before_gets_the_limit_and_everybody_goes_on_trusting_it(maker: Maker) -> None:
    """Its authority signed for any name, and running tasks and browsers have it in memory."""
    (maker.folder / "request").write_text(
        "[req]\ndistinguished_name = name\nx509_extensions = more\n[name]\n[more]\n"
        "subjectKeyIdentifier = hash\nbasicConstraints = critical, CA:TRUE, pathlen:0\n"
        "keyUsage = critical, keyCertSign, cRLSign\n"
    )
    maker.openssl(
        "req -x509 -config request -days 3000 -noenc -newkey ec -pkeyopt ec_paramgen_curve:P-256"
        " -keyout ca-key.pem -out ca.pem -subj",
        "/O=Airflow's authority/CN=before",
    )
    (maker.folder / "request").unlink()
    before, key = ((maker.folder / name).read_text() for name in ("ca.pem", "ca-key.pem"))
    assert maker.run("check") == 1
    after, certificate = maker.made()
    assert after != before
    assert (maker.folder / "pods-ca.pem").read_text() == before
    assert (maker.folder / "ca-key.pem").read_text() == key
    for authority in ("pods-ca.pem", "ca.pem"):
        maker.says_hello(authority, "me")
    assert maker.made() == (after, certificate)


def test_the_authority_is_renewed_before_it_ends_with_the_key_that_others_trust(
    maker: Maker,
) -> None:
    maker.made()
    for authority in ("ca.pem", "pods-ca.pem"):
        maker.openssl(f"x509 -in {authority} -signkey ca-key.pem -days 29 -out {authority}")
    old = (maker.folder / "pods-ca.pem").read_text()
    maker.made()
    assert (maker.folder / "pods-ca.pem").read_text() != old
    (maker.folder / "old.pem").write_text(old)
    for authority in ("old.pem", "pods-ca.pem", "ca.pem"):
        maker.says_hello(authority, "me")


@pytest.mark.parametrize(("days", "again"), [(29, True), (31, False)])
def test_a_certificate_is_renewed_before_it_ends(maker: Maker, days: int, again: bool) -> None:
    maker.run("apply", options=["--days", str(days)])
    before = (maker.folder / "server.pem").read_text()
    authority = (maker.folder / "ca.pem").read_text()
    same, after = maker.made()
    assert same == authority and (after != before) is again


@pytest.mark.parametrize("left", ["ca.pem", "pods-ca.pem", "ca-key.pem", "server.pem"])
def test_a_half_of_it_is_made_whole(full: Maker, left: str) -> None:
    for path in full.folder.iterdir():
        if path.name != left:
            path.unlink()
    full.made()
    assert full.holds_for("-verify_hostname", "me")


def test_a_run_that_fails_says_why_and_the_next_one_tidies_up(maker: Maker) -> None:
    openssl = f'exec {shutil.which("openssl")} "$@"'
    maker.program("openssl", f'test "$1" != req || {{ echo no room >&2; exit 1; }}\n{openssl}')
    assert maker.host.apply("host-certificate.py", str(maker.folder)) == "no room"
    assert (maker.folder / "request.new").exists() and not (maker.folder / "pods-ca.pem").exists()
    maker.program("openssl", openssl)
    maker.made()
    assert {path.suffix for path in maker.folder.iterdir()} == {".pem"}


def test_a_certificate_of_somebody_else_is_replaced(maker: Maker) -> None:
    # As an own certificate leaves it, with its authority.
    (maker.folder / "server.pem").write_text(fake.PAIR["certificate"] + fake.PAIR["key"])
    (maker.folder / "ca.pem").write_text(fake.PAIR["certificate"])
    authority, certificate = maker.made("airflow.example")
    assert fake.PAIR["certificate"] not in (authority, certificate)
