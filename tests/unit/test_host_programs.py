"""The programs that make services of the host run: the commands that they give, and their order."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tasks.layout import ROOT

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
    folder, calls = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir(exist_ok=True)
    calls.write_text("")
    for name in ("systemctl", "nginx", "curl", "sha256sum", "runuser", "journalctl", "sleep"):
        (folder / name).write_text(STUB.format(cases=cases))
        (folder / name).chmod(0o755)
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CALLS": str(calls),
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


def test_an_exporter_that_does_not_answer_shows_its_journal(tmp_path: Path) -> None:
    cases = '"curl "*) exit 7 ;;\n"journalctl "*) echo broken ;;'
    done, _ = run(tmp_path, cases, "metrics.sh", "apply", "9187")
    assert done.returncode == 1 and "broken" in done.stderr


REFUSED = "*pg_hba_file_rules*) {} ;;"  # PostgreSQL's answer about lines that it refuses


@pytest.mark.parametrize(("waiting", "restarts"), [(0, 0), (1, 1)])
def test_postgresql_restarts_only_for_an_option(
    waiting: int, restarts: int, tmp_path: Path
) -> None:
    (tmp_path / "15/main/conf.d").mkdir(parents=True)
    (tmp_path / "15/main/conf.d/airflow.conf").touch()
    (tmp_path / "15/main/pg_hba.conf").touch()
    cases = (
        f"{REFUSED.format('')}\n*conf_load_time*) echo t ;;\n*pending_restart*) echo {waiting} ;;"
    )
    done, calls = run(tmp_path, cases, "postgres.sh", "apply", "15")
    assert done.returncode == 0
    assert calls.count("systemctl restart postgresql@15-main") == restarts
    done, calls = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert done.returncode == waiting and "systemctl" not in calls
    assert len(done.stderr.splitlines()) == waiting


@pytest.mark.parametrize("fails", ["systemctl restart", "systemctl reload", "refused"])
def test_files_that_postgresql_can_not_work_with_are_put_back(fails: str, tmp_path: Path) -> None:
    folder = tmp_path / "15/main"
    (folder / "conf.d").mkdir(parents=True)
    files = folder / "conf.d/airflow.conf", folder / "pg_hba.conf"
    for file in files:
        file.write_text("new")
        Path(f"{file}.before").write_text("before")
    refused = "echo airflow.conf line 3: it is no number" if fails == "refused" else ""
    cases = (
        f"{REFUSED.format(refused)}\n*conf_load_time*) echo t ;;\n*pending_restart*) echo 1 ;;\n"
        f'"{fails}"*) test -e {files[0]}.before && exit 1 ;;'
    )
    done, _ = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert done.returncode == 1
    done, calls = run(tmp_path, cases, "postgres.sh", "apply", "15")
    assert done.returncode == 1 and "those of before are back" in done.stderr
    assert refused.removeprefix("echo ") in done.stderr
    assert [file.read_text() for file in files] == ["before"] * 2
    assert calls.splitlines()[-1] == "systemctl reload-or-restart postgresql@15-main"


def test_once_postgresql_works_with_its_files_those_of_before_go(tmp_path: Path) -> None:
    (tmp_path / "15/main/conf.d").mkdir(parents=True)
    for name in ("conf.d/airflow.conf", "conf.d/airflow.conf.before", "pg_hba.conf"):
        (tmp_path / "15/main" / name).touch()
    cases = f"{REFUSED.format('')}\n*conf_load_time*) echo t ;;\n*pending_restart*) echo 0 ;;"
    done, _ = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert done.returncode == 1 and "has not started with its new files" in done.stderr
    assert run(tmp_path, cases, "postgres.sh", "apply", "15")[0].returncode == 0
    done, _ = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert (done.returncode, done.stderr) == (0, "")
