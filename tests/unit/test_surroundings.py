"""A caller's umask, language, proxy and server of PostgreSQL reach no command on the host."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.api.config import config_defaults

from tasks.lib import shell
from tasks.lib.operations import run_unless
from tests.unit import fake, programs

HOSTILE = {
    "HOME": "/home/ada",
    "PATH": os.environ["PATH"],
    "LC_ALL": "de_DE.UTF-8",
    "PGHOST": "db.invalid",
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "no_proxy": "example.com",
}
LOOK = "umask; env; touch made; mkdir folder"


def variables(output: str) -> dict[str, str]:
    """The lines «name=value» of an output."""
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def modes(folder: Path) -> dict[str, str]:
    """The modes of the files that LOOK makes."""
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


AS_USUAL = {"made": "0o644", "folder": "0o755"}


def test_a_command_has_the_given_variables_and_no_others(tmp_path: Path) -> None:
    begin = shell.shell({"https_proxy": "http://it's.example:3128"})
    done = subprocess.run(
        f"{begin} -c {shlex.quote(LOOK)} <&-",
        shell=True,
        cwd=tmp_path,
        env=HOSTILE,
        umask=0o077,
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith("0022\n")
    found = variables(done.stdout)
    assert found.pop("PATH") == shell.PATH
    assert {name: value for name, value in found.items() if name not in ("PWD", "_", "SHLVL")} == {
        "HOME": "/home/ada",
        "LC_ALL": "C.UTF-8",
        "https_proxy": "http://it's.example:3128",
    }
    assert modes(tmp_path) == AS_USUAL


def test_operations_and_facts_run_in_that_shell(
    busy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(config_defaults, "SHELL", shell.shell({}))
    clean = 'test -z "$http_proxy$PGHOST$HTTPS_PROXY" && test "$LC_ALL" = C.UTF-8'
    before = os.umask(0o077)
    try:
        result = fake.run(
            run_unless,
            test=f"{clean} && test -e {folder}/folder",
            commands=[f"{clean} && cd {folder} && touch made && mkdir folder"],
            already="it is there",
        )
        again = fake.run(
            run_unless,
            test=f"{clean} && test -e {folder}/folder",
            commands=["false"],
            already="-",
        )
    finally:
        os.umask(before)
    assert result.did_change() and not again.did_change(), result.stderr
    assert modes(folder) == AS_USUAL
    assert busy.exists()  # and no lock of a deploy on this machine was taken


def test_the_removal_runs_in_that_shell() -> None:
    plan = fake.removal({}, keep_data=False)
    assert {each.shell for each in plan.operations} == {shell.shell({"PGCLUSTER": "15/main"})}


@pytest.fixture
def page() -> Iterator[str]:
    """The URL of a healthy Airflow that lets nobody in."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            names = ("metadatabase", "scheduler", "dag_processor", "triggerer")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({name: {"status": "healthy"} for name in names}).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(503)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_program_that_a_person_calls_has_the_same(tmp_path: Path) -> None:
    found = programs.host_env(tmp_path, fake.settings())
    folder = tmp_path / "made here"
    folder.mkdir()
    done = subprocess.run(
        [programs.LIB / "surroundings.sh", "sh", "-c", LOOK],
        cwd=folder,
        env=HOSTILE | found,
        umask=0o077,
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith("0022\n")
    seen = variables(done.stdout)
    assert not [name for name in seen if name.lower().endswith("_proxy")]
    assert seen["LC_ALL"] == "C.UTF-8"
    assert modes(folder) == AS_USUAL


def test_the_smoke_test_asks_the_host_itself(tmp_path: Path, page: str) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    found = programs.host_env(
        tmp_path, fake.settings(), {"WEB_URL": page, "SMOKE_TEST_PASSWORD": password}
    )
    done = subprocess.run(
        [programs.BIN / "airflow-smoke-test"],
        env=HOSTILE | found,
        text=True,
        capture_output=True,
        timeout=50,
    )
    assert done.returncode == 1 and "503" in done.stderr, done.stderr


def test_root_has_a_folder_for_temporary_programs(tmp_path: Path) -> None:
    found = programs.host_env(tmp_path, fake.settings())
    folder = tmp_path / "root/var/lib/airflow-deploy/tmp"
    command = [str(programs.LIB / "surroundings.sh"), "sh", "-c", "echo $TMPDIR"]
    env = HOSTILE | found
    assert subprocess.check_output(command, env=env, text=True).strip() == ""
    folder.mkdir(parents=True)
    expected = str(folder) if os.getuid() == 0 else ""
    assert subprocess.check_output(command, env=env, text=True).strip() == expected
