"""Airflow itself: its version, its health, its venv, its options, its DAGs."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import urlsplit

import pytest

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import Host, InVenv, if_wanted, only_if


def test_running_version(api: dict[str, Any], settings: HostSettings) -> None:
    assert api["version"] == settings.airflow.version


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


def test_command_airflow_reads_the_configuration(host: Host, settings: HostSettings) -> None:
    printed = host.check_output("/usr/local/bin/airflow config get-value core executor")
    assert printed == settings.airflow.config.get("core", {}).get(
        "executor", settings.airflow.executor
    )


@pytest.mark.parametrize(
    "option",
    [
        pytest.param(
            option,
            id=f"{option.section}.{option.name}",
            marks=if_wanted(option, "the settings leave the option to Airflow"),
        )
        for option in expected.OPTIONS
    ],
)
def test_option_is_in_force(
    option: expected.Option, in_venv: InVenv, settings: HostSettings
) -> None:
    # The inventory's own options win over the deploy's.
    given = settings.airflow.config.get(option.section, {}).get(option.name)
    wanted = option.value(settings) if given is None else given
    assert in_venv.options[option.section, option.name] == wanted, option.why


@pytest.mark.parametrize("unit", expected.UNITS)
def test_services_are_told_no_other_options(
    unit: str, units: dict[str, dict[str, str]], settings: HostSettings
) -> None:
    # Variables would win over the file that the options above are from. A change of the
    # jwt-secret, which one names, is not under way.
    variables = [word.split("=", 1) for word in shlex.split(units[unit]["Environment"])]
    found = dict(each for each in variables if each[0].startswith("AIRFLOW__"))
    # To an existing PostgreSQL, code of DAGs has a login of its own; its password is in a file.
    has_own = expected.existing_postgres(settings) and unit in (
        expected.DAG_PROCESSOR,
        expected.TRIGGERER,
    )
    options = {"SQL_ALCHEMY_CONN", "SQL_ALCHEMY_CONN_ASYNC"} if has_own else set()
    assert found.keys() == {f"AIRFLOW__DATABASE__{option}" for option in options}
    for url in found.values():
        assert urlsplit(url).password is None


@only_if(
    lambda facts: (
        "dag_bundle_config_list" not in facts.settings.airflow.config.get("dag_processor", {})
    ),
    "the inventory writes the DAG bundles itself",
)
def test_new_dag_files_are_seen_in_time(in_venv: InVenv, settings: HostSettings) -> None:
    configured = in_venv.options["dag_processor", "dag_bundle_config_list"]
    assert configured is not None
    found = {each["name"]: each["kwargs"]["refresh_interval"] for each in json.loads(configured)}
    assert found == expected.bundles(settings)


def test_venv_is_the_one_that_people_find(host: Host, settings: HostSettings) -> None:
    found = host.check_output("readlink -f /opt/airflow/venv; ls /opt/airflow/venv/.complete")
    assert found.splitlines() == [settings.venv, "/opt/airflow/venv/.complete"]


def test_packages_go_together(host: Host, settings: HostSettings) -> None:
    uv = "/opt/airflow/uv/bin/uv --no-cache"
    said = host.check_output(f"{uv} pip check --python {settings.venv}/bin/python 2>&1")
    assert "All installed packages are compatible" in said


def test_venv_is_compiled(host: Host, settings: HostSettings) -> None:
    # Services must not write bytecode; without it each start compiles for many seconds.
    version = expected.PYTHON[settings.codename]
    folder = f"/opt/airflow/venv/lib/python{version}/site-packages/airflow"
    tag = f"cpython-{version.replace('.', '')}"
    sources, compiled, main = host.check_output(
        f"cd {folder} && find . -name '*.py' | wc -l && find . -name '*.{tag}.pyc' | wc -l"
        f" && ls __pycache__/__init__.{tag}.pyc"
    ).splitlines()
    assert main.endswith(".pyc")
    assert int(sources) > 1000
    assert int(compiled) >= 0.9 * int(sources)


@only_if(lambda facts: facts.settings.airflow.smoke_test, "the inventory turns the smoke test off")
def test_smoke_test_passed_with_the_host_as_it_is(host: Host) -> None:
    # The files that are not there with these settings add nothing.
    files = " ".join(expected.PROVEN_BY_SMOKE_TEST)
    now, then = host.check_output(
        f"cat {files} 2>/dev/null | sha256sum; cat /var/lib/airflow-deploy/smoke-test-passed"
    ).splitlines()
    assert now == then


def test_dag_processor_may_read_the_dags(host: Host, settings: HostSettings) -> None:
    claim = settings.dags.claim
    folder = {
        "image": "/opt/airflow/baked-dags/current",
        "volume_claim": claim.host_path if claim else "",
        "git": "/opt/airflow/deploy-dags",
    }.get(settings.dags.source, "/opt/airflow/dags")
    # As the unit sees it: with a /tmp and a /home of its own.
    host.check_output(
        "pid=$(systemctl show -P MainPID airflow-dag-processor) && test $pid -gt 0"
        f" && nsenter -t $pid -m -- runuser -u airflow-dags -- ls {folder}"
    )


@only_if(lambda facts: facts.settings.dags.git_bundles, "the inventory names no git repository")
def test_git_bundles_were_cloned_from_their_addresses(host: Host, settings: HostSettings) -> None:
    found = {
        name: host.check_output(
            f"git config -f /var/lib/airflow-dags/bundles/{name}/bare/config remote.origin.url"
        )
        for name in settings.dags.git_bundles
    }
    assert found == {name: bundle.url for name, bundle in settings.dags.git_bundles.items()}


@only_if(lambda facts: facts.settings.dags.git_bundles, "the inventory names no git repository")
def test_git_bundles_were_read(host: Host, settings: HostSettings) -> None:
    # A commit that the dag-processor read is a version of the bundle.
    query = "select name from dag_bundle where active and version is not null"
    found = host.check_output(f"/usr/local/lib/airflow/owner.sh psql -XAtqc '{query}'")
    assert set(found.split()) == set(settings.dags.git_bundles)


def test_log_files_are_opened_by_the_deploys_plugin(host: Host) -> None:
    program = (
        "from airflow.sdk import log;"
        " from airflow.utils.log.file_task_handler import FileTaskHandler as handler;"
        " opening = (log.init_log_file, handler._read_from_local, handler._read_from_logs_server);"
        " print({each.__module__ for each in opening})"
    )
    said = host.check_output(f'/usr/local/lib/airflow/run python -c "{program}"')
    assert said.splitlines()[-1] == "{'airflow_deploy_logs'}"


def test_each_id_has_a_folder_for_its_logs(host: Host, settings: HostSettings) -> None:
    program = (
        "from types import SimpleNamespace;"
        " from airflow.utils.helpers import log_filename_template_renderer as renderer;"
        " ti = SimpleNamespace(map_index=-1, try_number=1,"
        " **dict.fromkeys(('dag_id', 'run_id', 'task_id'), 'x' * 250));"
        " print(max(len(each) for each in renderer()(ti=ti).split('/')) <= 255)"
    )
    if "log_filename_template" not in settings.airflow.config.get("logging", {}):
        said = host.check_output(f'/usr/local/lib/airflow/run python -c "{program}"')
        assert said.splitlines()[-1] == "True"


def test_what_ends_no_service(host: Host) -> None:
    program = (
        "from airflow.jobs.scheduler_job_runner import SchedulerJobRunner as runner;"
        " from airflow.jobs.triggerer_job_runner import TriggerRunner;"
        " from airflow.cli.commands import rotate_fernet_key_command as rotation;"
        " from airflow.models.log import Log;"
        " from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import"
        " KubernetesExecutor as executor;"
        " from airflow._shared.module_loading import file_discovery as discovery;"
        " print(runner._try_to_load_executor.__module__, runner._create_dag_runs.__module__,"
        " discovery._find_path_from_directory.__module__,"
        " executor._adopt_completed_pods.__module__,"
        " executor._handle_pod_publish_error.__module__, TriggerRunner.create_triggers.__module__,"
        " rotation.rotate_items_in_batches.__module__, len(Log(event='x' * 61).event))"
    )
    said = host.check_output(f'/usr/local/lib/airflow/run python -c "{program}"')
    *modules, length = said.splitlines()[-1].split()
    names = ("callbacks", "apart", "apart", "outages", "outages", "triggers", "keys")
    assert (modules, length) == ([f"airflow_deploy_{name}" for name in names], "60")
