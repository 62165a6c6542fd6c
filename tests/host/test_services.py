"""Airflow's units: they run, they run what is on the disk, and they are closed in."""

from __future__ import annotations

import shlex
import time

import pytest

from tasks.services import SERVICES, STARTED_WITH, inputs
from tasks.settings import LOOPBACK, Settings
from tasks.timers import timers
from tests.host.support import (
    MAX_EXPOSURE,
    Host,
    Listener,
    Process,
    complaints,
    each_unit,
    properties,
)

# Bytes. All four use about 1.1 GiB; each more worker of the api-server adds to it.
MAX_MEMORY, MAX_MEMORY_OF_A_WORKER = 1.5 * 2**30, 0.4 * 2**30


@each_unit
def test_runs_and_starts_with_the_host(unit: str, units: dict[str, dict[str, str]]) -> None:
    assert (units[unit]["ActiveState"], units[unit]["SubState"]) == ("active", "running")
    assert units[unit]["UnitFileState"] == "enabled"
    assert units[unit]["NeedDaemonReload"] == "no"
    (service,) = [service for service in SERVICES if service.unit == unit]
    assert units[unit]["User"] == units[unit]["Group"] == service.user


@pytest.fixture(scope="module")
def later(host: Host, units: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The units again, more than a restart's delay (2 s) after the first look."""
    time.sleep(3)
    return properties(host, *(service.unit for service in SERVICES))


@each_unit
def test_does_not_restart_again_and_again(
    unit: str, units: dict[str, dict[str, str]], later: dict[str, dict[str, str]]
) -> None:
    for name in ("ActiveState", "MainPID", "InvocationID", "NRestarts"):
        assert later[unit][name] == units[unit][name]


@each_unit
def test_belongs_to_the_target(unit: str, units: dict[str, dict[str, str]]) -> None:
    assert "airflow.target" in units[unit]["PartOf"].split()
    assert "airflow.target" in units[unit]["WantedBy"].split()


def test_target_starts_with_the_host(units: dict[str, dict[str, str]]) -> None:
    assert units["airflow.target"]["ActiveState"] == "active"
    assert units["airflow.target"]["UnitFileState"] == "enabled"


def test_webserver_is_another_name_of_the_api_server(units: dict[str, dict[str, str]]) -> None:
    assert units["airflow-webserver.service"]["Id"] == "airflow-api-server.service"


@each_unit
def test_runs_the_pythons_of_its_venv(
    unit: str, processes: dict[str, Process], settings: Settings
) -> None:
    # The venv's interpreter is a link to Debian's; what is loaded into it is the venv's.
    assert processes[unit].executable == f"/usr/bin/python{settings.release.python}"
    assert processes[unit].venvs == [settings.venv]


@each_unit
def test_runs_with_its_inputs_as_they_are(unit: str, host: Host, settings: Settings) -> None:
    started_with = f"{STARTED_WITH}/{unit}"
    read = host.check_output(f"sha256sum --check --quiet {started_with} && cat {started_with}")
    (service,) = [service for service in SERVICES if service.unit == unit]
    assert {line.split()[1] for line in read.splitlines()} == set(inputs(service, settings))


@each_unit
def test_is_closed_in(unit: str, host: Host) -> None:
    done = host.run(f"systemd-analyze security --no-pager --threshold={MAX_EXPOSURE} {unit}")
    assert done.rc == 0, done.stdout.strip().splitlines()[-1]


@each_unit
def test_systemd_has_nothing_to_say_against(unit: str, host: Host) -> None:
    assert complaints(host, unit) == []


def test_memory(processes: dict[str, Process], settings: Settings) -> None:
    more_workers = int(settings.airflow_config.get("api", {}).get("workers", "1")) - 1
    used = [process.memory for process in processes.values()]
    assert min(used) > 50 * 2**20  # it was measured
    assert sum(used) < MAX_MEMORY + more_workers * MAX_MEMORY_OF_A_WORKER


def test_api_server_listens_where_the_settings_say(
    listeners: list[Listener], processes: dict[str, Process], settings: Settings
) -> None:
    (listener,) = [each for each in listeners if each.port == settings.airflow_web_port]
    assert listener.pid in processes["airflow-api-server.service"].pids
    assert listener.address == LOOPBACK


def test_airflow_listens_on_no_other_port(
    listeners: list[Listener], processes: dict[str, Process], settings: Settings
) -> None:
    pids = [pid for process in processes.values() for pid in process.pids]
    ports = {each.port for each in listeners if each.pid in pids}
    assert ports == {settings.airflow_web_port}


@pytest.mark.parametrize("user", ["nobody", "airflow", "airflow-dags"])
def test_the_command_airflow_is_roots(user: str, host: Host) -> None:
    done = host.run(f"cd / && runuser -u {shlex.quote(user)} -- /usr/local/bin/airflow version")
    assert done.rc == 1
    assert "use sudo airflow" in done.stderr


def test_timers_are_those_of_the_settings(host: Host, settings: Settings) -> None:
    for timer in timers(settings):
        name, service = timer.units
        found = properties(host, name, service)
        # systemd leaves out what it does not know of a unit that was never there.
        state = (found[name]["ActiveState"], found[name].get("UnitFileState", ""))
        assert state == (("active", "enabled") if timer.wanted else ("inactive", "")), name
        assert found[service]["Result"] == "success", service
        assert found[name]["NeedDaemonReload"] == found[service]["NeedDaemonReload"] == "no"


def test_what_timers_start_is_closed_in(host: Host, settings: Settings) -> None:
    for timer in timers(settings):
        if not timer.wanted:
            continue
        assert [each for unit in timer.units for each in complaints(host, unit)] == []
        arguments = f"--no-pager --threshold={MAX_EXPOSURE} {timer.units[1]}"
        assert host.run(f"systemd-analyze security {arguments}").rc == 0, timer.name
