"""Airflow's units: they run, with their files as they are on the disk, and in a sandbox."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from tasks.airflow.services import SERVICES as PLANNED
from tasks.airflow.services import inputs as planned_inputs
from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import (
    BACKUP_EXPOSURE,
    MAX_EXPOSURE,
    Host,
    Process,
    each_unit,
    if_wanted,
    only_if,
)

each_timer = pytest.mark.parametrize(
    "timer",
    [
        pytest.param(
            timer, id=timer.name, marks=if_wanted(timer, "the settings want no such timer")
        )
        for timer in expected.TIMERS
    ],
)
Units = dict[str, dict[str, str]]


@each_unit
def test_runs_and_starts_with_the_host(unit: str, units: Units) -> None:
    assert (units[unit]["ActiveState"], units[unit]["SubState"]) == ("active", "running")
    assert units[unit]["UnitFileState"] == "enabled"
    assert units[unit]["NeedDaemonReload"] == "no"
    user = expected.SERVICES[unit].user
    assert units[unit]["User"] == units[unit]["Group"] == user


@each_unit
def test_is_started_again_after_half_a_second(unit: str, units: Units) -> None:
    assert {name: units[unit][name] for name in expected.RESTARTS} == expected.RESTARTS


@each_unit
def test_does_not_restart_again_and_again(unit: str, units: Units, now: float) -> None:
    # A single restart may be right: the liveness check kills a service that hangs. One that ends at
    # each start never gets a minute old.
    age = now - int(units[unit]["ActiveEnterTimestampMonotonic"]) / 1e6
    assert units[unit]["NRestarts"] == "0" or age > 60


@pytest.fixture(scope="module")
def now(host: Host) -> float:
    """The host's clock, in the seconds that systemd counts in."""
    return float(host.check_output("python3 -c 'import time; print(time.monotonic())'"))


def test_target_starts_and_stops_all_of_it(units: Units, settings: HostSettings) -> None:
    target = units["airflow.target"]
    assert (target["ActiveState"], target["UnitFileState"]) == ("active", "enabled")
    # The units' own PartOf= and WantedBy=, as the target has them.
    for name in ("ConsistsOf", "Wants"):
        assert set(target[name].split()) == expected.stopped_by_target(settings), name


def test_webserver_is_another_name_of_the_api_server(units: Units) -> None:
    assert units["airflow-webserver.service"]["Id"] == "airflow-api-server.service"


@each_unit
def test_starts_after_its_requirements(unit: str, units: Units, settings: HostSettings) -> None:
    needed = {"network-online.target"}
    needed |= {"postgresql.service"} if expected.own_postgres(settings) else set()
    needed |= {"minikube.service"} if settings.kubernetes.uses_minikube else set()
    needed |= {expected.API_SERVER} - {unit}
    assert needed <= set(units[unit]["After"].split())


@only_if(lambda facts: expected.may_run_tasks_here(facts.settings), "no task may run on this host")
def test_scheduler_waits_for_tasks_on_this_host(units: Units) -> None:
    assert units[expected.SCHEDULER]["TimeoutStopUSec"] == "10min"


@each_unit
def test_runs_the_pythons_of_its_venv(
    unit: str, processes: dict[str, Process], settings: HostSettings
) -> None:
    # The venv's interpreter is a link to Debian's; its modules are the venv's.
    version = expected.PYTHON[settings.codename]
    assert processes[unit].executable == f"/usr/bin/python{version}"
    assert processes[unit].venvs == [settings.venv]


@pytest.fixture(scope="module")
def started_with(host: Host) -> dict[str, dict[str, str]]:
    """The files that each unit read when it started; OK if they are as they were then."""
    checks = (
        f"echo == {unit}; sha256sum --check /run/airflow/{unit} 2>/dev/null"
        for unit in expected.UNITS
    )
    found: dict[str, dict[str, str]] = {}
    for part in host.run("; ".join(checks)).stdout.split("== ")[1:]:
        unit, *lines = part.splitlines()
        found[unit] = dict(line.split(": ") for line in lines)
    return found


@each_unit
def test_runs_with_its_inputs_as_they_are(
    unit: str, started_with: dict[str, dict[str, str]], settings: HostSettings
) -> None:
    assert started_with[unit] == dict.fromkeys(expected.inputs(unit, settings), "OK")
    # The deploy compares the same files.
    (planned,) = [each for each in PLANNED if each.unit == unit]
    assert set(started_with[unit]) == set(planned_inputs(planned, settings))


@pytest.fixture(scope="module")
def ours(settings: HostSettings) -> list[str]:
    """All units that the deploy writes."""
    timers = expected.wanted(expected.TIMERS, settings)
    minikube = ["minikube.service"] if settings.kubernetes.uses_minikube else []
    return [
        *expected.UNITS,
        *(unit for timer in timers for unit in (timer.timer, timer.service)),
        *minikube,
    ]


@pytest.fixture(scope="module")
def exposures(host: Host, ours: list[str]) -> dict[str, float]:
    """How open each service is to the rest of the host, from 0 to 10."""
    services = " ".join(unit for unit in ours if unit.endswith(".service"))
    printed = host.check_output(f"systemd-analyze security --no-pager {services}")
    found = re.findall(r"exposure level for (\S+): ([\d.]+)", printed)
    return {unit: float(level) for unit, level in found}


@pytest.fixture(scope="module")
def complaints(host: Host, ours: list[str]) -> list[str]:
    """systemd's complaints about the deploy's units; it has more about the units around them."""
    done = host.run_expect([0, 1], f"systemd-analyze verify {' '.join(ours)} 2>&1")
    return [line for line in done.stdout.splitlines() if any(unit in line for unit in ours)]


@each_timer
def test_timers_service_has_its_drop_ins(
    timer: expected.Timer, units: Units, settings: HostSettings
) -> None:
    shared = "/etc/systemd/system/airflow-.service.d/10-sandbox.conf"
    ours = [shared, *expected.drop_ins(timer, settings)]
    # People may have others, by `systemctl edit`.
    found = units[timer.service].get("DropInPaths", "").split()
    assert [path for path in found if path in ours] == ours


@each_unit
def test_has_the_sandbox_and_the_values_of_this_host(unit: str, units: Units) -> None:
    shared = "/etc/systemd/system/airflow-.service.d/10-sandbox.conf"
    ours = [shared, f"/etc/systemd/system/{unit}.d/30-host.conf"]
    found = units[unit].get("DropInPaths", "").split()
    assert [path for path in found if path in ours] == ours


@each_unit
def test_is_closed_in(unit: str, exposures: dict[str, float]) -> None:
    assert exposures[unit] * 10 <= MAX_EXPOSURE


def test_systemd_has_nothing_to_say_against(complaints: list[str]) -> None:
    assert complaints == []


# Bytes: the README's requirement, and the default limit of a task's pod. The rest must do for
# Airflow, PostgreSQL, nginx and Kubernetes together; Debian itself needs little beside them.
MACHINE, TASK = 4 * 10**9, 2**30
# Bytes of Airflow's four services. The bench wants 0.85 GiB of them while nothing happens, and DAGs
# are read in processes of their own. A twofold Airflow has no room here.
AIRFLOW, MORE_API_WORKER = 1.5 * 2**30, 0.4 * 2**30


@pytest.fixture(scope="module")
def used(running: dict[str, Any]) -> dict[str, int]:
    """Bytes of memory of each unit, and of each program in pods."""
    memory: dict[str, int] = running["memory"]
    # It was measured: Python alone needs as much.
    assert min(memory[unit] for unit in expected.UNITS) > 50 * 2**20
    return memory


@only_if(
    lambda facts: (
        not (
            facts.settings.airflow.config
            or facts.settings.postgres.config
            or expected.may_run_tasks_here(facts.settings)
        )
    ),
    "the settings may ask for more memory than the defaults",
)
def test_a_task_has_room_beside_all_that_runs(used: dict[str, int], settings: HostSettings) -> None:
    ours = {name: used[name] for name in expected.runs(settings)}
    assert sum(ours.values()) < MACHINE - TASK, ours


@only_if(
    lambda facts: not expected.may_run_tasks_here(facts.settings),
    "tasks on this host take memory as a part of the scheduler",
)
def test_airflow_itself_stays_small(used: dict[str, int], settings: HostSettings) -> None:
    ours = {unit: used[unit] for unit in expected.UNITS}
    workers = int(settings.airflow.config.get("api", {}).get("workers", "1"))
    assert sum(ours.values()) < AIRFLOW + (workers - 1) * MORE_API_WORKER, ours


@pytest.mark.parametrize("user", ["nobody", "airflow", "airflow-dags"])
def test_the_command_airflow_is_roots(user: str, host: Host) -> None:
    done = host.run(f"cd / && runuser -u {shlex.quote(user)} -- /usr/local/bin/airflow version")
    assert done.rc == 1
    assert "use sudo airflow" in done.stderr


@each_timer
def test_timer_waits_for_its_time(timer: expected.Timer, units: Units) -> None:
    found = units[timer.timer]
    assert (found["ActiveState"], found["UnitFileState"]) == ("active", "enabled")
    assert found["Unit"] == timer.service
    assert found["NeedDaemonReload"] == units[timer.service]["NeedDaemonReload"] == "no"
    schedule = found.get("TimersCalendar") or found.get("TimersMonotonic", "")
    # The README lets people choose another hour with `systemctl edit`, which makes a drop-in.
    if not found.get("DropInPaths"):
        assert f"{{ {timer.schedule} ;" in schedule
    # A time that was missed while the host was off is made up for.
    assert found["Persistent"] == ("yes" if timer.is_daily else "no")


@pytest.fixture(scope="module")
def host_values(host: Host) -> str:
    """The values that the deploy's programs read."""
    return f"{host.check_output('cat /etc/airflow/host.env')}\n"


@each_timer
def test_timer_does_its_work(
    timer: expected.Timer, units: Units, host_values: str, settings: HostSettings
) -> None:
    found = units[timer.service]
    assert found["Result"] == "success"
    assert (found["User"], found["Group"]) == (timer.user, timer.user)
    said = f"{found['ExecStart']}\n{found.get('Environment', '')} \n{host_values}"
    assert [words for words in timer.words(settings) if words not in said] == []


@each_timer
def test_the_programs_of_the_timer_are_sandboxed(
    timer: expected.Timer, exposures: dict[str, float], settings: HostSettings
) -> None:
    # A backup is root's, and has the network where the database is elsewhere.
    reaches_out = timer.name == "airflow-backup" and expected.existing_postgres(settings)
    assert exposures[timer.service] * 10 <= (BACKUP_EXPOSURE if reaches_out else MAX_EXPOSURE)


def test_there_is_no_other_timer(host: Host, settings: HostSettings) -> None:
    listed = host.check_output(
        "systemctl list-unit-files --no-legend 'airflow*' | awk '{print $1}'"
    ).split()
    timers = expected.wanted(expected.TIMERS, settings)
    known = {unit for timer in timers for unit in (timer.timer, timer.service)}
    own = {*expected.UNITS, *expected.WEB_UNITS, "airflow.target", "airflow-webserver.service"}
    assert set(listed) == known | own
