"""Nobody but Airflow listens where Airflow is expected."""

from __future__ import annotations

import re
from pathlib import Path
from subprocess import run

import pytest

from tasks import layout
from tasks.layout import ROOT
from tests.unit import fake, formats
from tests.unit.reports import found

UNITS = layout.UNITS_DIRECTORY
QUESTIONS = (ROOT / "tasks/preflight/questions.sh").read_text()


@pytest.fixture(scope="module")
def uploads() -> dict[str, str]:
    """The files of a host whose page has another port."""
    return fake.plan(fake.settings({"web_port": 8090})).uploads


def test_the_api_servers_port_is_closed_to_users_of_the_host(uploads: dict[str, str]) -> None:
    port = layout.API_SERVER_PORT
    assert port < 80
    config = formats.config_of(fake.plan(fake.settings({"web_port": 8090})))
    assert (config["api"]["host"], config["api"]["port"]) == ("127.0.0.1", str(port))
    relaxed = uploads[f"{UNITS}/airflow-api-server.service.d/20-sandbox.conf"]
    for option in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert f"\n{option}=CAP_NET_BIND_SERVICE\n" in relaxed
    # All programs that ask the api-server ask there.
    asking = [uploads[layout.HOST_ENV], uploads[layout.NGINX_SITE], uploads[layout.CONFIG]]
    asking.append(uploads[f"{UNITS}/airflow-liveness.service.d/30-host.conf"])
    for text in asking:
        assert set(re.findall(r"http://127\.0\.0\.1:(\d+)", text)) == {str(port)}


def test_systemd_holds_the_port_of_the_page_on_both_addresses(uploads: dict[str, str]) -> None:
    for unit, address in ((layout.WEB_SOCKET, "127.0.0.1"), ("airflow-web6.socket", "[::1]")):
        assert f"\nListenStream={address}:8090\n" in uploads[f"{UNITS}/{unit}.d/30-host.conf"]
        # Also while Airflow is stopped.
        assert "airflow.target" not in uploads[f"{UNITS}/{unit}"]
    passed_on = f"systemd-socket-proxyd 127.0.0.1:{layout.API_SERVER_PORT}\n"
    assert passed_on in uploads[f"{UNITS}/airflow-web.service"]


def test_a_program_and_a_text_never_say_localhost() -> None:
    """Which is ::1 first, where another user may listen."""
    folders = (ROOT / "tasks", ROOT / "files")
    texts = {
        path: path.read_text()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "requirements" not in path.parts
    }
    texts[ROOT / "README.md"] = (ROOT / "README.md").read_text()
    assert [path for path, text in texts.items() if re.search(r"(//|:|@)localhost\b:", text)] == []


@pytest.mark.parametrize(
    ("listen", "is_ours"),
    [
        ("127.0.0.1:8080 (Stream)", True),
        ("127.0.0.1:80801 (Stream)", False),
        ("", False),
    ],
)
def test_a_port_that_systemd_holds_is_told_unless_it_is_the_pages(
    listen: str, is_ours: bool, tmp_path: Path
) -> None:
    stub = tmp_path / "systemctl"
    stub.write_text(f"#!/bin/sh\necho '{listen}'\n")
    stub.chmod(0o755)
    (function,) = re.findall(r"^is_ours\(\) \{.*?^\}", QUESTIONS, re.M | re.S)
    path = f"{tmp_path}:/usr/bin:/bin"
    for process, expected in (("1", is_ours), ("999999999", False)):
        call = f"{function}\nis_ours 8080 {process} airflow-no-such-unit"
        assert (run(["sh", "-c", call], env={"PATH": path}).returncode == 0) is expected


@pytest.mark.parametrize("has_site", [True, False])
def test_a_persons_nginx_at_a_port_of_the_page_is_told(has_site: bool, tmp_path: Path) -> None:
    """It is the deploy's when it has the deploy's site."""
    (function,) = re.findall(r"^is_ours\(\) \{.*?^\}", QUESTIONS, re.M | re.S)
    site = tmp_path / "site"
    if has_site:
        site.touch()
    # Every process is in nginx's group for this grep.
    call = f"grep() {{ :; }}\nnginx_site={site}\n{function}\nis_ours 443 77 nginx.service"
    assert (run(["sh", "-c", call]).returncode == 0) is has_site


def test_a_port_that_anybody_may_take_is_refused() -> None:
    (finding,) = found({"open_ports": ["0"]})
    assert finding.startswith("net.ipv4.ip_unprivileged_port_start is 0")
    # The first port that is open to all.
    assert len(found({"open_ports": [str(layout.API_SERVER_PORT)]})) == 1
    assert found({"open_ports": ["80"]}) == found({"open_ports": ["1024"]}) == []
