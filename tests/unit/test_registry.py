"""Images' names, and the meaning of a registry's answers."""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.worker.registry import Reference, problem

DIGEST = "sha256:" + "a" * 64
DOCKER_HUB = "registry-1.docker.io"


@pytest.mark.parametrize(
    ("image", "reference"),
    # https://github.com/distribution/reference/blob/main/reference.go and, for Docker Hub's short
    # names, normalize.go beside it.
    [
        ("debian", (DOCKER_HUB, "library/debian", "latest")),
        ("debian:12", (DOCKER_HUB, "library/debian", "12")),
        ("apache/airflow:3.3.2", (DOCKER_HUB, "apache/airflow", "3.3.2")),
        ("docker.io/apache/airflow:3.3.2", (DOCKER_HUB, "apache/airflow", "3.3.2")),
        ("docker.io/debian", (DOCKER_HUB, "library/debian", "latest")),
        ("ghcr.io/owner/name:1", ("ghcr.io", "owner/name", "1")),
        ("registry.example/a/b/c", ("registry.example", "a/b/c", "latest")),
        ("registry:5000/worker:1", ("registry:5000", "worker", "1")),
        ("localhost/worker:1", ("localhost", "worker", "1")),
        ("localhost:5000/worker", ("localhost:5000", "worker", "latest")),
        (f"ghcr.io/owner/name@{DIGEST}", ("ghcr.io", "owner/name", DIGEST)),
        (f"registry:5000/worker:1@{DIGEST}", ("registry:5000", "worker", DIGEST)),
    ],
)
def test_an_images_name_in_its_parts(image: str, reference: tuple[str, str, str]) -> None:
    assert Reference.parse(image) == reference


class Registry(http.server.BaseHTTPRequestHandler):
    """A registry with one public image and one that needs a login.

    https://distribution.github.io/distribution/spec/auth/token/
    """

    def do_HEAD(self) -> None:
        """Say whether there is a manifest."""
        path, token = self.path, self.headers.get("Authorization")
        if path.startswith("/v2/private/"):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="registry"'})
        elif token != "Bearer let-me-in":
            host = self.headers["Host"]
            scope = f'service="{host}",scope="repository:team/worker:pull"'
            self._answer(401, {"WWW-Authenticate": f'Bearer realm="https://{host}/token",{scope}'})
        else:
            self._answer(200 if path == "/v2/team/worker/manifests/1" else 404, {})

    def do_GET(self) -> None:
        """Give a token for the right scope."""
        right = "scope=repository%3Ateam%2Fworker%3Apull" in self.path
        body = json.dumps({"token": "let-me-in" if right else "no"}).encode()
        self._answer(200, {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost with its key in one file."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", f"{path}.key", "-out", path),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.key").read_text())
    return path


@pytest.fixture
def registry(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a registry on this machine."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    # The registry is on this machine, whatever proxy the environment names.
    monkeypatch.setenv("no_proxy", "localhost")
    server = http.server.ThreadingHTTPServer(("localhost", 0), Registry)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_image_that_is_there_is_no_problem(registry: str) -> None:
    assert problem(f"{registry}/team/worker:1") is None


def test_a_missing_tag_is_named_with_its_cure(registry: str) -> None:
    sentence = problem(f"{registry}/team/worker:2")
    assert sentence is not None
    assert f"{registry} has no team/worker with tag 2" in sentence
    assert "push the image" in sentence


def test_a_registry_that_wants_a_login_can_not_be_judged(registry: str) -> None:
    assert problem(f"{registry}/private/worker:1") is None


def test_a_registry_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "localhost")
    # Port 1 (tcpmux) is nobody's nowadays.
    sentence = problem("localhost:1/team/worker:1")
    assert sentence is not None and "the registry localhost:1 can't be reached" in sentence


def test_a_name_that_is_none_is_a_problem() -> None:
    assert problem("localhost:1/team/worker image:1") is not None
