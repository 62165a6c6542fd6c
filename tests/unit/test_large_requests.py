"""nginx takes few large requests at a time, before it or Airflow keeps their bodies."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks import layout
from tests.support import free_port, wait_for
from tests.unit import fake

# Debian's folder is in the PATH of root only.
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

FROM_ONE, IN_ALL = 16, 32
LARGE = 10**6  # bytes
XCOM = "/execution/xcoms/a/b/c/d"
# nginx.conf as Debian has it, in a folder and in the foreground.
CONF = """
daemon off;
{user}
pid {folder}/pid;
error_log {folder}/log;
worker_processes 2;
events {{ worker_connections 768; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site;
}}
"""


class Upstream(BaseHTTPRequestHandler):
    """An api-server that refuses each request after it has read the body."""

    # Requests without a body wait until there are so many.
    all_here = threading.Barrier(2 * IN_ALL)

    def do_GET(self) -> None:
        """All or none are answered."""
        self.all_here.wait(60)
        self.send_response(401)
        self.end_headers()

    def do_POST(self) -> None:
        """nginx says the length, also of a body that came in chunks."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """With room for all."""

    request_queue_size = 2 * IN_ALL


class Request:
    """One whose header nginx has; its body comes later."""

    trusting = ssl._create_unverified_context()

    def __init__(self, port: int, address: str, asked: str, header: str) -> None:
        plain = socket.create_connection(("127.0.0.1", port), 60, (address, 0))
        self.connection = self.trusting.wrap_socket(plain)
        self.connection.sendall(f"{asked} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode())
        self._status = 0

    def status(self, seconds: float = 0) -> int:
        """The status of the answer; 0 if there is none within some seconds."""
        if not self._status:
            self.connection.settimeout(seconds)
            # The answer's first line is one record.
            with contextlib.suppress(ssl.SSLWantReadError, TimeoutError):
                self._status = int(self.connection.recv(4096).split()[1])
        return self._status

    def end(self, body: bytes) -> int:
        """Send the body; returns the status of the answer."""
        self.connection.settimeout(60)
        self.connection.sendall(body)
        return self.status(60)


class Site:
    """The deploy's, as nginx serves it. Its requests end with it."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.requests = contextlib.ExitStack()

    def begin(
        self,
        port: str,
        address: str = "127.0.0.1",
        length: str = f"Content-Length: {LARGE}",
        path: str = "",
    ) -> Request:
        """Send the header of a request from an address; without a length it has no body."""
        path = path or {"pods": XCOM, "page": "/api/v2/variables"}[port]
        asked = f"POST {path}" if length else f"GET {path}"
        request = Request(self.ports[port], address, asked, length or "Accept: */*")
        self.requests.callback(request.connection.close)
        return request


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """nginx with the site and an upstream."""
    tmp_path.chmod(0o755)
    openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=a"
    pair = tmp_path / "pair"
    made = [*openssl.split(), "-keyout", f"{pair}.key", "-out", f"{pair}.crt"]
    subprocess.run(made, check=True, capture_output=True)
    pair.write_text(Path(f"{pair}.key").read_text() + Path(f"{pair}.crt").read_text())
    upstream = Server(("127.0.0.1", 0), Upstream)
    ports = {"pods": free_port(), "page": free_port()}
    given = {"web_https_port": ports["page"], "execution_api_port": ports["pods"]}
    plan = fake.plan(fake.settings({**fake.VARIANTS["page with TLS"], **given}))
    text = plan.uploads[layout.NGINX_SITE]
    for there, here in {
        f"http://127.0.0.1:{layout.API_SERVER_PORT}": f"http://127.0.0.1:{upstream.server_port}",
        f"{layout.CERTIFICATE};": f"{pair};",
        "syslog:server=unix:/dev/log,nohostname": f"{tmp_path}/log",
        # On a busy machine requests may wait for their turn in a test.
        "client_header_timeout 5s;": "client_header_timeout 60s;",
        "client_body_timeout 30s;": "client_body_timeout 300s;",
    }.items():
        assert there in text
        text = text.replace(there, here)
    (tmp_path / "site").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(CONF.format(folder=tmp_path, user=user))
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    nginx = subprocess.Popen([str(NGINX), "-p", tmp_path, "-c", tmp_path / "nginx.conf"])
    try:
        for port in ports.values():
            wait_for(partial(answers, port), 60, f"nginx listens: {tmp_path}/log", every=0.05)
        served = Site(ports)
        with served.requests:
            yield served
    finally:
        nginx.terminate()
        nginx.wait(60)
        upstream.shutdown()
        upstream.server_close()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def refused(requests: list[Request]) -> int:
    """How many of them nginx has refused so far, with the status with which tasks try again."""
    found = {request.status() for request in requests}
    assert found <= {0, 503}
    return sum(request.status() == 503 for request in requests)


@pytest.mark.parametrize(
    ("length", "body"),
    [
        (f"Content-Length: {LARGE}", bytes(LARGE)),
        # They don't say how much comes.
        ("Transfer-Encoding: chunked", b"1\r\na\r\n0\r\n\r\n"),
    ],
)
def test_an_address_has_few_large_requests_at_a_time(length: str, body: bytes, site: Site) -> None:
    begun = [site.begin(("pods", "page")[number % 2], length=length) for number in range(40)]
    wait_for(lambda: refused(begun) == 40 - FROM_ONE, 60, "the others are refused")
    # Other requests go on, and so do other addresses.
    small = f"Content-Length: {LARGE - 1}"
    for port in ("pods", "page"):
        assert site.begin(port, length=small).end(bytes(LARGE - 1)) == 401
        assert site.begin(port, "127.0.0.2").end(bytes(LARGE)) == 401
    # Airflow gets those that were taken. Then there is place again.
    taken = [request for request in begun if not request.status()]
    assert [request.end(body) for request in taken] == [401] * FROM_ONE
    # An answer may come a moment before nginx counts it out.
    wait_for(lambda: site.begin("pods", length=length).end(body) == 401, 60, "there is place")


def test_all_addresses_have_few_large_requests_at_a_time(site: Site) -> None:
    begun = [site.begin("pods", f"127.0.0.{1 + number % 10}") for number in range(60)]
    wait_for(lambda: refused(begun) == 60 - IN_ALL, 60, "the others are refused")
    assert site.begin("page", "127.0.0.11").status(60) == 503
    small = site.begin("page", "127.0.0.11", f"Content-Length: {LARGE - 1}")
    assert small.end(bytes(LARGE - 1)) == 401


def test_many_small_requests_are_taken(site: Site) -> None:
    length = f"Content-Length: {LARGE - 1}"
    begun = [site.begin("pods", length=length) for _ in range(2 * IN_ALL)]
    assert {request.end(bytes(LARGE - 1)) for request in begun} == {401}


def test_requests_without_a_body_are_taken(site: Site) -> None:
    begun = [site.begin("pods", length="") for _ in range(2 * IN_ALL)]
    assert {request.status(60) for request in begun} == {401}


@pytest.mark.parametrize(
    ("port", "path", "mebibytes", "status"),
    [
        ("pods", XCOM, 64, 0),
        ("pods", XCOM, 65, 413),
        ("pods", "/execution/dag-runs/a/b", 1, 0),
        ("pods", "/execution/dag-runs/a/b", 2, 413),
        # nginx and Airflow would have to differ about a path.
        ("pods", "/execution/xcoms/../dag-runs/a/b", 2, 400),
        ("pods", "/execution/xcoms/%2e%2e/dag-runs/a/b", 2, 400),
        ("page", "/api/v2/dags/a/dagRuns", 1, 0),
        ("page", "/api/v2/dags/a/dagRuns", 2, 413),
        ("page", XCOM, 2, 413),
    ],
)
def test_only_an_xcom_is_larger_than_a_megabyte(
    port: str, path: str, mebibytes: int, status: int, site: Site
) -> None:
    request = site.begin(port, length=f"Content-Length: {mebibytes << 20}", path=path)
    assert request.status(0.5 if status == 0 else 60) == status


def test_a_large_xcom_reaches_airflow(site: Site) -> None:
    assert site.begin("pods", length=f"Content-Length: {8 << 20}").end(bytes(8 << 20)) == 401
