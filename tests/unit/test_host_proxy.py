"""The proxy through which a host reaches the internet: the programs that know it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tasks import layout
from tasks.settings import HostSettings, Settings
from tests.unit import fake, programs
from tests.unit.asked_host import Host
from tests.unit.formats import Unit

URL = "http://proxy.example:3128"
GIVEN = fake.VARIANTS["proxy"]
NAMES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
host = pytest.fixture(name="host")(lambda tmp_path: Host(tmp_path))


def settings() -> HostSettings:
    """Those of a host with a proxy."""
    return Settings.from_data(GIVEN).for_release("bookworm", own_names=("192.0.2.7", "big.example"))


def test_it_is_not_for_the_host_itself_and_its_cluster() -> None:
    exceptions = settings().environment["no_proxy"].split(",")
    assert {"localhost", "127.0.0.1", "192.0.2.7", "big.example", ".example"} <= {*exceptions}
    assert {".svc", ".cluster.local", "10.96.0.0/12", "10.244.0.0/16"} <= {*exceptions}
    in_container = Settings.from_data({**GIVEN, "minikube_driver": "podman"})
    exceptions = in_container.for_release("bookworm").environment["no_proxy"].split(",")
    assert "192.168.49.0/24" in exceptions  # where the cluster's API is then
    moved = {"minikube_extra_args": ["--service-cluster-ip-range=172.30.0.0/16"]}
    exceptions = fake.settings({**GIVEN, **moved}).environment["no_proxy"].split(",")
    assert "172.30.0.0/16" in exceptions and "10.96.0.0/12" not in exceptions
    existing = Settings.from_data({**fake.EXISTING, **GIVEN}).for_release("bookworm")
    exceptions = existing.environment["no_proxy"].split(",")
    assert "10.244.0.0/16" not in exceptions and fake.EXISTING["execution_api_host"] in exceptions


def test_a_login_is_refused() -> None:
    with pytest.raises(Exception, match="proxy_url"):
        Settings.from_data({"proxy_url": "http://ada:secret@proxy.example:3128"})


@pytest.mark.parametrize("given", [False, True])
def test_programs_that_reach_the_internet_know_the_proxy(given: bool) -> None:
    plan = fake.plan(settings() if given else fake.settings())
    units = ["minikube.service", *(unit for unit in layout.UNITS if unit.endswith("service"))]
    for unit in units:
        text = "".join(
            content
            for path, content in plan.uploads.items()
            if path.startswith(f"{layout.UNITS_DIRECTORY}/{unit}")
        )
        assert text and (f'"HTTPS_PROXY={URL}"' in text) is given, unit
    pod = yaml.safe_load(plan.uploads[layout.POD_CANDIDATE])
    names = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    assert {*NAMES}.isdisjoint(names) is not given
    if given:
        # The variable is put in by Kubernetes, from one that stands above.
        assert next(iter(names)) == "HOST_IP" and names["NO_PROXY"].endswith(",.example")
        assert "$(HOST_IP)" in names["NO_PROXY"].split(",")
    minikube = Unit.of(plan, "minikube.service")
    assert (
        any("HTTP_PROXY=" in each for each in minikube.options.get("Service.Environment", []))
        is given
    )


def test_programs_have_it(tmp_path: Path) -> None:
    found = programs.host_env(tmp_path, settings())
    shown = subprocess.check_output(
        [programs.LIB / "surroundings.sh", "env"],
        env={"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:9", **found},
        text=True,
    )
    lines = shown.splitlines()
    assert {f"http_proxy={URL}", f"HTTPS_PROXY={URL}"} <= {*lines}
    assert f"no_proxy={settings().environment['no_proxy']}" in lines


def containerd(tmp_path: Path, verb: str, pid: int, given: HostSettings) -> int:
    """Run containerd's program where containerd is the process `pid`; returns its exit code."""
    stub = tmp_path / "systemctl"
    stub.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncase "$*" in show*) echo {pid} ;; esac'
    )
    stub.chmod(0o755)
    done = subprocess.run(
        [programs.LIB / "containerd.sh", verb, "proxy", f"{tmp_path}/unit.d/airflow-proxy.conf"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **programs.host_env(tmp_path, given)},
        text=True,
        stderr=subprocess.PIPE,
    )
    assert (verb == "check" and done.returncode == 1) is (done.stderr.count("\n") == 1), done.stderr
    return done.returncode


def test_containerd_is_restarted_until_it_has_it(tmp_path: Path) -> None:
    with_proxy, without = settings(), fake.settings()
    drop_in, calls = tmp_path / "unit.d/airflow-proxy.conf", tmp_path / "calls"
    told = {name: with_proxy.environment[name] for name in NAMES}
    with (
        subprocess.Popen(["sleep", "60"], env={"PATH": "/usr/bin:/bin"}) as old,
        subprocess.Popen(["sleep", "60"], env={"PATH": "/usr/bin:/bin", **told}) as new,
    ):
        try:
            assert containerd(tmp_path, "check", old.pid, without) == 0
            assert containerd(tmp_path, "check", old.pid, with_proxy) == 1
            assert containerd(tmp_path, "apply", old.pid, with_proxy) == 0
            assert f'Environment="HTTPS_PROXY={URL}"' in drop_in.read_text()
            assert calls.read_text().splitlines()[-1] == "restart containerd"
            # As after a kill before the restart.
            assert containerd(tmp_path, "check", old.pid, with_proxy) == 1
            assert containerd(tmp_path, "check", new.pid, with_proxy) == 0
            assert containerd(tmp_path, "check", new.pid, without) == 1
            assert containerd(tmp_path, "apply", new.pid, without) == 0
            assert not drop_in.parent.exists()
            assert containerd(tmp_path, "check", old.pid, without) == 0
        finally:
            old.kill()
            new.kill()


@pytest.fixture
def proxy() -> Iterator[tuple[int, list[str]]]:
    """The port of a proxy that knows one server, and the requests that it got."""
    asked: list[str] = []

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                request = ""
                while not request.endswith("\r\n\r\n"):
                    request += connection.recv(1000).decode()
                line = request.split("\r\n")[0]
                asked.append(line)
                code = "200 OK" if " known.example:443 " in line else "502 Bad Gateway"
                connection.sendall(f"HTTP/1.1 {code}\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1], asked


def test_servers_are_asked_through_it(host: Host, proxy: tuple[int, list[str]]) -> None:
    port, asked = proxy
    servers = "known.example unknown.example"
    host.variables |= {"proxy": f"127.0.0.1 {port}", "index_servers": servers}
    assert host.ask() == {"no_index": ["pip unknown.example", "uv unknown.example"]}
    assert asked.count("CONNECT known.example:443 HTTP/1.1") == 2


def test_an_index_of_the_hosts_own_need_not_be_behind_it(
    host: Host, tmp_path: Path, proxy: tuple[int, list[str]]
) -> None:
    pip = tmp_path / "pip.conf"
    host.variables |= {"proxy": f"127.0.0.1 {proxy[0]}", "pip_files": str(pip)}
    with socket.create_server(("127.0.0.1", 0)) as index:
        pip.write_text(f"[global]\nindex-url = http://127.0.0.1:{index.getsockname()[1]}/simple\n")
        assert host.ask() == {"index_of": ["pip"]}
    assert host.ask() == {"index_of": ["pip"], "no_index": ["pip 127.0.0.1"]}
    pip.write_text("[global]\nindex-url = https://known.example/simple\n")
    assert host.ask() == {"index_of": ["pip"]}
