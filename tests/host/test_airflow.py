"""Airflow itself: its version, its health, its venv, its DAGs."""

from __future__ import annotations

from typing import Any

import pytest

from tasks import dags
from tasks.airflow import BUNDLES
from tasks.settings import DAGS_USER, Settings
from tasks.smoke import PASSED, STATE
from tasks.tools import UV
from tests.host.support import Host


def test_running_version(api: dict[str, Any], settings: Settings) -> None:
    assert api["version"] == settings.airflow_version


@pytest.mark.parametrize("component", ["metadatabase", "scheduler", "dag_processor", "triggerer"])
def test_is_healthy(component: str, api: dict[str, Any]) -> None:
    assert api["health"][component]["status"] == "healthy"


def test_dag_is_known_and_can_be_run(dag: str, api: dict[str, Any]) -> None:
    known = api["dags"][dag]
    assert known is not None, f"Airflow does not know {dag}"
    assert known["has_import_errors"] is False
    assert known["is_stale"] is False


def test_dag_file_has_no_import_error(dag: str, api: dict[str, Any]) -> None:
    errors = {name.rpartition("/")[2]: trace for name, trace in api["import_errors"].items()}
    assert errors.get(f"{dag}.py") is None


def test_command_airflow_reads_the_configuration(host: Host, settings: Settings) -> None:
    executor = settings.airflow_config.get("core", {}).get("executor", "KubernetesExecutor")
    assert host.check_output("/usr/local/bin/airflow config get-value core executor") == executor


def test_venv_is_the_one_that_people_find(host: Host, settings: Settings) -> None:
    found = host.check_output("readlink -f /opt/airflow/venv; ls /opt/airflow/venv/.complete")
    assert found.splitlines() == [settings.venv, "/opt/airflow/venv/.complete"]


def test_packages_go_together(host: Host, settings: Settings) -> None:
    check = f"{UV}/bin/uv --no-cache pip check --python {settings.venv}/bin/python 2>&1"
    assert "All installed packages are compatible" in host.check_output(check)


def test_venv_is_compiled(host: Host, settings: Settings) -> None:
    # Services must not write bytecode; without it each start compiles for many seconds.
    folder = f"{settings.venv}/lib/python{settings.release.python}/site-packages/airflow"
    tag = f"cpython-{settings.release.python.replace('.', '')}"
    sources, compiled, main = host.check_output(
        f"cd {folder} && find . -name '*.py' | wc -l && find . -name '*.{tag}.pyc' | wc -l"
        f" && ls __pycache__/__init__.{tag}.pyc"
    ).splitlines()
    assert main.endswith(".pyc")
    assert int(sources) > 1000
    assert int(compiled) >= 0.9 * int(sources)


def test_smoke_test_passed_with_the_host_as_it_is(host: Host, settings: Settings) -> None:
    if not settings.airflow_smoke_test:
        pytest.skip("the inventory turned the smoke test off")
    now, then = host.check_output(f"{STATE}; cat {PASSED}").splitlines()
    assert now == then


def test_dags_of_a_source_are_where_the_dag_processor_may_read_them(
    host: Host, settings: Settings
) -> None:
    folder = dags.folder_on_host(settings)
    pid = host.check_output("systemctl show -P MainPID airflow-dag-processor")
    assert int(pid)
    # As the unit sees it: with a /tmp and a /home of its own.
    host.check_output(f"nsenter -t {pid} -m -- runuser -u {DAGS_USER} -- ls {folder}")


def test_git_bundles_were_cloned_from_their_addresses(host: Host, settings: Settings) -> None:
    for name, bundle in settings.airflow_git_bundles.items():
        config = f"/var/lib/{DAGS_USER}/{BUNDLES}/{name}/bare/config"
        assert host.check_output(f"git config -f {config} remote.origin.url") == bundle.url
