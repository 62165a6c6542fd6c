"""The programs that make services of the host run: the commands that they give, and their order."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tasks.layout import ROOT
from tests.unit import fake, programs

PROGRAMS = ROOT / "files/usr/local/lib/airflow"
URL = "https://127.0.0.1:8443/"

# Each stub writes its name and arguments to a file, and ends as the test says.
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
{cases}
esac
"""


def run(tmp_path: Path, cases: str, *command: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a program with stubs, which act by the cases; return its end and the calls of stubs."""
    folder, calls, values = tmp_path / "bin", tmp_path / "calls", tmp_path / "host.env"
    folder.mkdir(exist_ok=True)
    calls.write_text("")
    values.write_text("STARTED_WITH=/run/airflow\n")
    for name in ("systemctl", "nginx", "curl", "sha256sum", "runuser", "journalctl", "sleep"):
        (folder / name).write_text(STUB.format(cases=cases))
        (folder / name).chmod(0o755)
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "AIRFLOW_HOST_ENV": str(values),
            "POSTGRES_CONFIG": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done, calls.read_text()


ACTIVE = '"systemctl is-active "*) echo active ;;'
ARGUMENTS = {"nginx.sh": URL, "metrics.sh": "9187", "postgres.sh": "15"}


@pytest.mark.parametrize("program", ARGUMENTS)
@pytest.mark.parametrize("arguments", [(), ("check",), ("make", "15")])
def test_a_wrong_call_shows_the_usage(
    program: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done, calls = run(tmp_path, "", program, *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"usage: {program}")
    assert not calls


def test_each_program_shows_the_usage_of_the_comment_at_its_top(tmp_path: Path) -> None:
    environment = programs.host_env(tmp_path, fake.settings()) | {"PATH": "/usr/bin:/bin"}
    callers = [
        path for path in PROGRAMS.glob("*.sh") if re.search(r"(\|\||\)) usage\b", path.read_text())
    ]
    assert len(callers) > 20
    for path in callers:
        done = subprocess.run([path], env=environment, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (2, ""), path.name
        lines = done.stderr.splitlines()
        assert lines and all(line.startswith(f"usage: {path.name} ") for line in lines), done.stderr


def test_a_site_with_an_error_is_not_loaded(tmp_path: Path) -> None:
    done, calls = run(tmp_path, '"nginx -t -q") exit 1 ;;', "nginx.sh", "apply", URL)
    assert done.returncode == 1
    assert calls == "nginx -t -q\n"


def test_nginx_that_does_not_serve_its_site_is_an_error(tmp_path: Path) -> None:
    done, calls = run(tmp_path, '"curl "*) echo 000; exit 7 ;;', "nginx.sh", "apply", URL)
    assert done.returncode == 1 and "does not serve its site" in done.stderr
    assert "systemctl reload-or-restart nginx.service" in calls


@pytest.mark.parametrize(("code", "status"), [("404", 0), ("200", 1)])
def test_the_check_asks_nginx_itself(code: str, status: int, tmp_path: Path) -> None:
    done, calls = run(tmp_path, f'{ACTIVE}\n"curl "*) echo {code} ;;', "nginx.sh", "check", URL)
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == status
    assert "reload" not in calls


@pytest.mark.parametrize("program", ["nginx.sh", "metrics.sh"])
@pytest.mark.parametrize(
    ("cases", "difference"),
    [
        ('"systemctl is-enabled "*) exit 1 ;;', "is not enabled"),
        ('"systemctl is-active "*) echo failed ;;', "is failed"),
        (f'{ACTIVE}\n"sha256sum "*) echo "/a: FAILED"; exit 1 ;;', "inputs changed: /a: FAILED"),
    ],
)
def test_the_check_says_why_a_service_does_not_run_as_it_should(
    cases: str, difference: str, program: str, tmp_path: Path
) -> None:
    done, calls = run(tmp_path, cases, program, "check", ARGUMENTS[program])
    assert done.returncode == 1 and difference in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "restart" not in calls


def test_an_exporter_that_does_not_answer_shows_its_journal(tmp_path: Path) -> None:
    cases = '"curl "*) exit 7 ;;\n"journalctl "*) echo broken ;;'
    done, _ = run(tmp_path, cases, "metrics.sh", "apply", "9187")
    assert done.returncode == 1 and "broken" in done.stderr


@pytest.mark.parametrize(("waiting", "restarts"), [(0, 0), (1, 1)])
def test_postgresql_restarts_only_for_an_option(
    waiting: int, restarts: int, tmp_path: Path
) -> None:
    (tmp_path / "15/main/conf.d").mkdir(parents=True)
    (tmp_path / "15/main/conf.d/airflow.conf").touch()
    (tmp_path / "15/main/pg_hba.conf").touch()
    cases = f"*conf_load_time*) echo t ;;\n*pending_restart*) echo {waiting} ;;"
    done, calls = run(tmp_path, cases, "postgres.sh", "apply", "15")
    assert done.returncode == 0
    assert calls.count("systemctl restart postgresql@15-main") == restarts
    done, calls = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert done.returncode == waiting and "systemctl" not in calls
    assert len(done.stderr.splitlines()) == waiting
