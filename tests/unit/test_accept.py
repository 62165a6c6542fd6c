"""A file that its program can't work with does not take the place of one that works."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tasks import layout
from tests.unit import fake, postgres
from tests.unit.fake import Plan
from tests.unit.programs import LIB

VERSION = postgres.PROGRAMS[-1].parent.name if postgres.PROGRAMS else ""


def accept(
    kind: str, new: Path, stand_in: tuple[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Ask the program, with a stand-in for another program if one is given."""
    folder = new.parent / "stand-ins"
    if stand_in:
        folder.mkdir(exist_ok=True)
        (folder / stand_in[0]).write_text(f"#!/bin/sh\n{stand_in[1]}\n")
        (folder / stand_in[0]).chmod(0o755)
    return subprocess.run(
        [LIB / "accept.sh", kind, str(new)],
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        text=True,
        capture_output=True,
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """The configuration of a cluster, as Debian lays it out, with a file of an admin."""
    folder = tmp_path / VERSION / "main"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "postgresql.conf").write_text(
        "data_directory = '/no'\nhba_file = '/no'\nident_file = '/no'\n"
        "include_dir = 'conf.d'\ninclude = 'more.conf'\n"
    )
    (folder / "more.conf").write_text("superuser_reserved_connections = 2\n")
    (folder / "conf.d/airflow.conf").write_text("work_mem = '4MB'\n")
    return folder


def config(given: dict[str, str]) -> str:
    """The file of the deploy with options of the inventory."""
    plan = fake.plan(fake.settings({"postgres_config": given}))
    (text,) = (text for path, text in plan.uploads.items() if path.endswith("conf.d/airflow.conf"))
    return text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"shared_bufers": "1GB"}, 'unrecognized configuration parameter "shared_bufers"'),
        ({"work_mem": "lots"}, 'invalid value for parameter "work_mem": "lots"'),
        ({"max_connections": "-1"}, "outside the valid range"),
    ],
)
def test_postgresql_refuses_options_in_its_own_words(
    given: dict[str, str], says: str, cluster: Path
) -> None:
    new = cluster / "conf.d/airflow.conf.new"
    new.write_text(config(given))
    done = accept("postgres", new)
    assert done.returncode == 1 and says in done.stderr
    assert f"{cluster}/conf.d/airflow.conf" in done.stderr, "the file where it will be"
    assert done.stderr.endswith("the new airflow.conf is refused, and the earlier one stays\n")
    assert not (cluster / "conf.d/airflow.conf.before").exists()


def test_good_options_are_accepted_and_the_file_of_before_is_kept_once(cluster: Path) -> None:
    new = cluster / "conf.d/airflow.conf.new"
    for given in ({"work_mem": "16MB"}, {"log_checkpoints": "on", "search_path": "it's, \\a"}):
        new.write_text(config(given))
        done = accept("postgres", new)
        assert (done.returncode, done.stderr) == (0, "")
        new.rename(cluster / "conf.d/airflow.conf")
    # PostgreSQL has not started with any of the two.
    assert (cluster / "conf.d/airflow.conf.before").read_text() == "work_mem = '4MB'\n"


# As nginx does, it names the file in which it finds an error.
NGINX = """
for conf; do :; done
grep -o "include [^;]*" "$conf" | while read -r _ files; do
    for file in $files; do
        ! grep -H bad "$file" >&2 || exit 1
        ! grep -q other "$file" || touch "$(dirname "$conf")/other-was-read"
    done
done
"""


@pytest.mark.parametrize("text", ["listen good;", "listen bad;"])
def test_nginx_reads_a_site_before_it_is_enabled(text: str, tmp_path: Path) -> None:
    for name in ("sites-available", "sites-enabled"):
        (tmp_path / name).mkdir()
    (tmp_path / "nginx.conf").write_text(f"http {{ include {tmp_path}/sites-enabled/*; }}\n")
    (tmp_path / "sites-available/aaa").write_text("listen other;")
    (tmp_path / "sites-enabled/aaa").symlink_to(tmp_path / "sites-available/aaa")
    # The one of before is not read: it may be as bad, or listen at the same address.
    (tmp_path / "sites-available/airflow").write_text("listen bad;")
    (tmp_path / "sites-enabled/airflow").symlink_to(tmp_path / "sites-available/airflow")
    new = tmp_path / "sites-available/airflow.new"
    new.write_text(text)
    done = accept("site", new, ("nginx", NGINX))
    assert done.returncode == ("bad" in text)
    assert ("the new airflow is refused" in done.stderr) is ("bad" in text)
    if "bad" in text:
        assert f"{tmp_path}/airflow:listen bad;" in done.stderr
    assert (tmp_path / "other-was-read").exists()
    assert not (tmp_path / "nginx.conf.new").exists()


# Debian 12 has a keepalived that ends by SIGTERM after it has read a script.
@pytest.mark.parametrize(
    ("keepalived", "accepted"),
    [
        ("exit 0", True),
        ("echo 'a remark'; exit 0", True),
        ("kill $$", True),
        ("echo 'Unknown keyword' >&2; kill $$", False),
        ("echo 'Unknown keyword'; exit 4", False),
        ("exit 3", False),
    ],
)
def test_keepalived_reads_its_configuration_first(
    keepalived: str, accepted: bool, tmp_path: Path
) -> None:
    new = tmp_path / "keepalived.conf.new"
    new.touch()
    script = f'[ "$*" = "--config-test --use-file {new}" ] || exit 9\n{keepalived}'
    done = accept("address", new, ("keepalived", script))
    assert (done.returncode == 0) is accepted
    if accepted:
        assert done.stderr == ""
    else:
        assert done.stderr.endswith("keepalived.conf is refused, and the earlier one stays\n")
        assert ("Unknown keyword" in keepalived) is ("Unknown keyword" in done.stderr)


def minikube(arguments: list[str]) -> str:
    """The unit of the cluster, with a program that this machine has in minikube's place."""
    text = fake.plan(fake.settings({"minikube_extra_args": arguments})).uploads[
        "/etc/systemd/system/minikube.service"
    ]
    return text.replace(layout.START_MINIKUBE, "/bin/true")


def test_systemd_refuses_a_unit_that_it_can_not_load(tmp_path: Path) -> None:
    new = tmp_path / "minikube.service.new"
    new.write_text(minikube(["--memory=4g"]))
    done = accept("unit", new)
    assert (done.returncode, done.stderr) == (0, "")
    new.write_text("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecReload=/bin/true\n")
    done = accept("unit", new)
    assert done.returncode == 1 and "minikube.service" in done.stderr
    assert "the new minikube.service is refused" in done.stderr


def test_all_of_the_deploys_units_can_be_loaded(plan: Plan, tmp_path: Path) -> None:
    top = "/etc/systemd/system/"
    for path, text in plan.uploads.items():
        if path.startswith(f"{top}airflow"):
            file = tmp_path / path.removeprefix(top)
            file.parent.mkdir(parents=True, exist_ok=True)
            # This machine does not have their programs.
            file.write_text(
                text.replace("/usr/local/lib/airflow/", "/bin/true ")
                .replace("/usr/local/bin/airflow-", "/bin/true ")
                .replace("=airflow ", "=true ")
                .replace("=+airflow ", "=true ")
            )
    done = accept("units", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "airflow-scheduler.service").write_text("[Service]\nType=oneshot\n")
    done = accept("units", tmp_path)
    assert done.returncode == 1 and "airflow-scheduler.service" in done.stderr


def test_a_wrong_call_shows_the_usage(tmp_path: Path) -> None:
    done = accept("something", tmp_path / "file.new")
    assert done.returncode == 2 and done.stderr.startswith("usage: accept.sh")


def test_the_files_that_settings_can_break_are_looked_at_first(plan: Plan) -> None:
    looked_at = {
        name.rpartition(" | ")[2]
        for name in plan.names
        if "/accept.sh" in " ".join(plan.named(name).commands)
    }
    assert {
        "Write PostgreSQL's conf.d/airflow.conf",
        "Write pg_hba.conf",
        "Write nginx's site airflow",
        "Write minikube.service",
        "Install the units",
    } == looked_at
