"""Airflow's timers: their units, and the effects of their programs, with stubs for others."""

from __future__ import annotations

import http.server
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks import layout
from tasks.airflow import services
from tasks.worker import image
from tests.unit import fake, formats
from tests.unit.fake import FILES, Plan
from tests.unit.formats import Unit

UNITS = layout.UNITS_DIRECTORY
PROGRAMS = FILES / layout.LIB.lstrip("/")
# Which setting decides about a timer, and where its number is seen.
KEPT = {
    "retention_failed_pod_minutes": "cleanup-pods",
    "retention_log_days": "cleanup-logs",
    "retention_history_days": "cleanup-history",
    "retention_backups": "backup",
}


def units(plan: Plan, name: str) -> tuple[Unit, Unit]:
    """A timer and its service as systemd reads them."""
    assert f"{UNITS}/airflow-{name}.service" in plan.uploads
    return Unit.of(plan, f"airflow-{name}.timer"), Unit.of(plan, f"airflow-{name}.service")


def test_each_timer_belongs_to_the_target_and_is_told_when(variant: Plan) -> None:
    written = [path for path in variant.uploads if path.endswith(".timer")]
    assert f"{UNITS}/airflow-liveness.timer" in written
    for path in written:
        timer, service = units(variant, Path(path).stem.removeprefix("airflow-"))
        assert timer.one("Unit.PartOf") == timer.one("Install.WantedBy") == "airflow.target"
        calendar, every = timer.all("Timer.OnCalendar"), timer.all("Timer.OnUnitInactiveSec")
        assert len(calendar + every) == 1
        assert timer.all("Timer.OnActiveSec") == every  # the first time
        assert service.one("Service.Type") == "oneshot"
        for command in service.commands("Service.ExecStart"):
            assert command[0].startswith("/")
        # It continues when the target stops: half a clean-up may be worse than a late one.
        assert not service.all("Unit.PartOf")


# The user of each, its time, and its rights beside those of the sandbox. Only two have any: to kill
# a service that hangs; and to become postgres, and to read its files.
TIMERS: dict[str, tuple[str, str, list[str]]] = {
    "liveness": ("airflow", "10s", ["CAP_KILL"]),
    "cleanup-pods": ("airflow", "10min", []),
    "backup": ("root", "02:30", ["CAP_SETUID CAP_SETGID CAP_DAC_READ_SEARCH"]),
    "cleanup-history": ("airflow", "03:30", []),
    "cleanup-logs": ("airflow-dags", "04:00", []),  # the logs are theirs
    "cleanup-images": ("root", "04:30", []),
    "certificate": ("root", "05:00", []),
    "token": ("root", "1min", []),
    "disks": ("airflow", "1min", []),
}


def test_the_programs_of_timers_are_sandboxed(variant: Plan) -> None:
    written = [Path(path).stem for path in variant.uploads if path.endswith(".timer")]
    for name in (stem.removeprefix("airflow-") for stem in written):
        user, when, capabilities = TIMERS[name]
        timer, service = units(variant, name)
        assert service.one("Service.User") == service.one("Service.Group") == user
        assert service.one("Service.ProtectSystem") == "strict"
        assert service.one("Service.NoNewPrivileges") == "yes"
        assert service.all("Service.CapabilityBoundingSet") == ["", *capabilities]
        # None of them has secrets.
        assert set(service.all("Service.EnvironmentFile")) <= {layout.HOST_ENV}
        if ":" in when:
            assert timer.one("Timer.OnCalendar") == when
            assert timer.one("Timer.Persistent") == "yes"  # a time that was missed is made up for
        else:
            assert timer.one("Timer.OnUnitInactiveSec") == when


def test_all_timers_but_that_of_the_endpoint_are_written_by_default(plan: Plan) -> None:
    for each, wanted in (
        (plan, TIMERS.keys() - {"disks"}),
        (fake.plan(fake.settings(fake.VARIANTS["metrics"])), TIMERS.keys()),
    ):
        written = {Path(path).stem for path in each.uploads if path.endswith(".timer")}
        assert written == {f"airflow-{name}" for name in wanted}


def test_the_timers_that_were_written_are_enabled_and_started(variant: Plan, stage: Stage) -> None:
    written = [Path(path).name for path in variant.uploads if path.endswith(".timer")]
    (command,) = variant.named("Start the timers").commands
    assert command == f"{layout.LIB}/load-units.sh apply timers"
    (stage.folder / "units").write_text(variant.uploads[f"{layout.UNITS_RECORD}.new"])
    stage.program("systemctl")
    stage.run("load-units.sh", "apply", "timers")
    reload, enable = stage.called("systemctl")
    assert reload == ["daemon-reload"]
    assert enable[:3] == ["enable", "--quiet", "--now"] and enable[3:] == written


@pytest.mark.parametrize(
    ("states", "difference"),
    [
        ({}, ""),
        ({"show": "no\nyes"}, "systemd has not read the units as they are on the disk"),
        ({"is-enabled": "disabled"}, "airflow-liveness.timer is not enabled"),
        ({"is-active": "inactive"}, "airflow-liveness.timer is inactive"),
    ],
)
def test_a_timer_that_does_not_run_is_told(
    states: dict[str, str], difference: str, stage: Stage, plan: Plan
) -> None:
    answers = {"show": "no\nno", "is-enabled": "enabled", "is-active": "active"} | states
    cases = " ".join(f"{verb}) echo '{said}' ;;" for verb, said in answers.items())
    stage.program("systemctl", f"case $1 in {cases} esac")
    (stage.folder / "units").write_text(plan.uploads[f"{layout.UNITS_RECORD}.new"])
    done = stage.start("load-units.sh", "check", "timers")
    assert (done.returncode, done.stdout) == (1 if difference else 0, "")
    assert done.stderr.startswith(difference) and len(done.stderr.splitlines()) <= 1


@pytest.mark.parametrize("setting", KEPT)
def test_zero_is_not_at_all(plan: Plan, setting: str) -> None:
    name = KEPT[setting]
    other = fake.plan(fake.settings({setting: 0}))
    path = f"{UNITS}/airflow-{name}"
    gone = {path for path in plan.uploads.keys() - other.uploads.keys() if path.startswith(UNITS)}
    drop_ins = {each for each in gone if each.startswith(f"{path}.service.d/")}
    assert gone - drop_ins == {f"{path}.timer", f"{path}.service"}
    disable, remove, reload = other.named(f"Remove airflow-{name}").commands
    assert disable == f"systemctl disable --quiet --now airflow-{name}.timer"
    assert remove == f"rm -f {path}.service {path}.timer"
    assert reload == "systemctl daemon-reload"
    # While its unit is still there.
    assert other.position(f"Remove airflow-{name}") < other.position("Install the units")


def test_each_retention_is_where_it_counts() -> None:
    # Four numbers that differ from each other and from the defaults.
    given = {
        "retention_failed_pod_minutes": 41,
        "retention_log_days": 42,
        "retention_history_days": 43,
        "retention_backups": 44,
        "retention_worker_images": 45,
    }
    plan = fake.plan(fake.settings(given))
    commands = {
        name: service.commands("Service.ExecStart")
        for name in TIMERS.keys() - {"disks"}
        for _, service in [units(plan, name)]
    }
    for name, program in (("pods", "pods"), ("logs", "logs"), ("history", "history")):
        assert commands[f"cleanup-{name}"] == [[f"{layout.LIB}/clean-{program}.sh"]]
    values = formats.host_values(plan)
    assert values["FAILED_PODS_MINUTES"] == "41"
    assert values["LOG_DAYS"] == "42"
    assert values["HISTORY_DAYS"] == "43"
    assert commands["backup"] == [[layout.BACKUP]]
    assert '\nkeep airflow "$BACKUPS_KEPT"\n' in plan.uploads[layout.BACKUP]
    assert re.search("^BACKUPS_KEPT=44$", plan.uploads[layout.HOST_ENV], re.M)
    (images,) = commands["cleanup-images"]
    assert images[:3] == [f"{layout.LIB}/{image.PRUNE}", "apply", "45"]


def test_liveness_asks_the_api_server_that_runs() -> None:
    plan = fake.plan(fake.settings({"web_port": 8090}))
    _, service = units(plan, "liveness")
    assert service.commands("Service.ExecStart") == [
        [f"{layout.LIB}/liveness.py", "http://127.0.0.1:78"]
    ]
    # host.env is written before the api-server moves to another address.
    assert not service.all("Service.EnvironmentFile")


@pytest.mark.parametrize("variant", ["defaults", "page with TLS", "existing cluster"])
def test_the_certificate_is_renewed_for_the_same_names(variant: str) -> None:
    settings = fake.settings(fake.VARIANTS[variant])
    _, service = units(fake.plan(settings), "certificate")
    (command,) = service.commands("Service.ExecStart")
    made = fake.plan(settings).named("Create the host's certificate").commands
    assert made == [shlex.join(command)]


@pytest.mark.parametrize(("minutes", "pending"), [("5", "30"), ("41", "41")])
def test_a_pod_that_can_not_start_has_half_an_hour(
    minutes: str, pending: str, stage: Stage
) -> None:
    # Airflow itself must have given it up before.
    stage.values |= {"FAILED_PODS_MINUTES": minutes, "NAMESPACES": "airflow team"}
    stage.program("airflow")
    stage.run("clean-pods.sh")
    assert stage.called("airflow") == [
        [
            *("kubernetes", "cleanup-pods", f"--namespace={namespace}"),
            *(f"--min-completed-minutes={minutes}", f"--min-pending-minutes={pending}"),
        ]
        for namespace in ("airflow", "team")
    ]


def test_a_prepared_virtual_environment_is_not_used_yet(plan: Plan) -> None:
    for name in ("cleanup-pods", "cleanup-history"):
        _, service = units(plan, name)
        folder = service.one("Service.ExecSearchPath").split(":")[0]
        assert folder == f"{fake.settings().venv}/bin"


def test_log_files_are_found_where_they_are_written() -> None:
    given = {**fake.VARIANTS["claims"], "retention_log_days": 7}
    plan = fake.plan(fake.settings(given))
    _, service = units(plan, "cleanup-logs")
    values = formats.host_values(plan)
    assert values["LOG_FOLDERS"].split() == [
        "/var/log/airflow",
        "/var/log/airflow-dag-processor",
    ]
    assert values["LOG_CLAIMS"] == "/srv/logs"
    assert values["LOG_DAYS"] == "7"
    assert service.all("Service.ReadWritePaths")[1:] == ["/srv/logs"]
    assert service.all("Service.BindPaths") == ["/srv/logs"]


def test_only_old_files_are_deleted(stage: Stage, tmp_path: Path) -> None:
    logs, claim = tmp_path / "logs", tmp_path / "claim"
    stage.values |= {"LOG_DAYS": "7", "LOG_FOLDERS": str(logs), "LOG_CLAIMS": str(claim)}
    for folder in (logs, claim):
        _fill(folder)
        os.mkfifo(folder / "b/pipe.log")
        (folder / "b/link").symlink_to("/etc/passwd")
        for name in ("pipe.log", "link"):
            _age(folder / "b" / name, 8)
    stage.run("clean-logs.sh")
    left = {
        folder: {str(path.relative_to(folder)) for path in folder.rglob("*")}
        for folder in (logs, claim)
    }
    # A folder that became empty goes a day later.
    kept = {"a", "a/young.log", "b", "c", "just-made"}
    assert left[logs] == kept
    # These may be others'.
    assert left[claim] == {*kept, "b/notes.txt", "b/pipe.log", "b/link"}
    stage.values["LOG_CLAIMS"] = ""
    stage.run("clean-logs.sh")
    assert (claim / "b/notes.txt").exists()


def test_a_folder_that_a_task_has_closed_is_opened_and_cleaned(
    stage: Stage, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    stage.values |= {"LOG_DAYS": "7", "LOG_FOLDERS": str(logs), "LOG_CLAIMS": ""}
    _fill(logs)
    (logs / "a").chmod(0)
    stage.run("clean-logs.sh")
    assert (logs / "a").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (logs / "a").iterdir()] == ["young.log"]


def test_a_folder_that_can_not_be_read_keeps_no_other_from_being_cleaned(
    stage: Stage, tmp_path: Path
) -> None:
    logs, claim, absent = tmp_path / "logs", tmp_path / "claim", tmp_path / "absent"
    stage.values |= {"LOG_DAYS": "7", "LOG_FOLDERS": f"{absent} {logs}", "LOG_CLAIMS": str(claim)}
    _fill(logs)
    _fill(claim)
    done = stage.start("clean-logs.sh")
    assert done.returncode == 1 and str(absent) in done.stderr  # which systemd shows
    for folder in (logs, claim):
        assert not list(folder.rglob("old.log")) and not (folder / "long-empty").exists()


def _fill(folder: Path) -> None:
    ages = {"a/old.log": 7.1, "a/young.log": 6.9, "b/old.log": 8, "b/notes.txt": 8, "c/old.log": 8}
    for name, days in ages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        _age(path, days)
    for name in ("long-empty", "just-made"):
        (folder / name).mkdir()
    _age(folder / "long-empty", 1.1)


def _age(path: Path, days: float) -> None:
    then = path.lstat().st_mtime - days * 86400
    os.utime(path, (then, then), follow_symlinks=False)


class Stage:
    """A folder of stub programs, which tell how they were called, and the values of a host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Units record their inputs in this folder.
        self.values = {"STARTED_WITH": str(folder), "UNITS_RECORD": f"{folder}/units"}
        self.values |= {"HOMES": str(folder), "OWNER_CONNECTION": "PGDATABASE=airflow"}
        self.calls = folder / "calls"
        self.calls.touch()
        self.program("setpriv", 'shift 3; exec "$@"')

    def program(self, name: str, script: str = "") -> str:
        """Add a program; returns its path."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{script}\n')
        path.chmod(0o755)
        return str(path)

    def start(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the deploy's programs with the values of the host."""
        values = self.folder / "host.env"
        values.write_text("".join(f"{name}='{value}'\n" for name, value in self.values.items()))
        return subprocess.run(
            [PROGRAMS / program, *arguments],
            env={"PATH": f"{self.folder}:/usr/bin:/bin", "AIRFLOW_HOST_ENV": str(values)},
            text=True,
            capture_output=True,
            timeout=60,
        )

    def run(self, program: str, *arguments: str) -> str:
        """Run one that succeeds and complains of nothing; returns its output."""
        done = self.start(program, *arguments)
        done.check_returncode()
        assert done.stderr == ""
        return done.stdout

    def called(self, name: str) -> list[list[str]]:
        """The arguments of each call of a program."""
        lines = map(str.split, self.calls.read_text().splitlines())
        return [words[1:] for words in lines if words[0] == name]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """An empty one."""
    return Stage(tmp_path)


# Liveness


def health(database: str = "healthy", age: float = 40, **others: str | None) -> str:
    """An answer of the api-server, in its format; the last signs of life are so old (s)."""
    names = ("scheduler", "triggerer", "dag_processor")
    states: dict[str, Any] = {"metadatabase": {"status": database}}
    for name in names:
        beat = {
            f"latest_{name}_heartbeat": (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
        }
        states[name] = {"status": others.get(name, "healthy"), **beat}
    return json.dumps(states, separators=(",", ":"))


WELL = health()
ALL_OLD = health(scheduler="unhealthy", triggerer="unhealthy", dag_processor="unhealthy")
SILENT = ""  # no answer in time

# The answers of the api-server at the first look and at the second, and the units that are killed.
LOOKS = {
    "all is well": ([WELL], []),
    "one hangs": ([health(scheduler="unhealthy")] * 2, ["airflow-scheduler"]),
    "another hangs": ([health(dag_processor="unhealthy")] * 2, ["airflow-dag-processor"]),
    "all hang": (
        [ALL_OLD] * 2,
        ["airflow-scheduler", "airflow-triggerer", "airflow-dag-processor"],
    ),
    "a pause is over": ([ALL_OLD, WELL], []),
    "one after the other": ([health(scheduler="unhealthy"), health(triggerer="unhealthy")], []),
    "no database": ([health(database="unhealthy", scheduler="unhealthy")], []),
    "the database goes": ([ALL_OLD, health(database="unhealthy", scheduler="unhealthy")], []),
    "never started": ([health(triggerer=None)], []),
    "the api-server hangs": ([SILENT, SILENT], ["airflow-api-server"]),
    "the api-server was slow": ([SILENT, WELL], []),
    "an error": (["Internal Server Error"], []),
}


class Api(http.server.BaseHTTPRequestHandler):
    """The api-server: `server.answers` has its answers by path, one after the other."""

    server: ApiServer

    def do_GET(self) -> None:
        """Answer; or, with nothing to say, hang up, as if nothing had come in time."""
        answers = self.server.answers.get(self.path, [SILENT])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == SILENT:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


class ApiServer(http.server.ThreadingHTTPServer):
    """On a port of this machine that is free."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Api)
        self.answers: dict[str, list[str]] = {}

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


HEALTH = "/api/v2/monitor/health"


class Host:
    """A machine on which Airflow's services run, each a process that stands still."""

    def __init__(self, stage: Stage, api: ApiServer) -> None:
        self.stage, self.api = stage, api
        self.running = {
            f"airflow-{service.name}": subprocess.Popen(["sleep", "60"])
            for service in services.SERVICES
        }
        self.states = dict.fromkeys(self.running, "active")
        for unit in self.running:
            self.started(unit, seconds=300)
        stage.program("curl", 'exec /usr/bin/curl "$@"')
        stage.program("sleep")

    def started(self, unit: str, seconds: float) -> None:
        """Make a unit one that started so long ago; each start leaves this file behind."""
        path = self.stage.folder / f"{unit}.service"
        path.touch()
        _age(path, seconds / 86400)

    def look(self) -> list[str]:
        """Run the script; returns the lines of its output."""
        cases = [
            *(f'"is-active {unit}") echo {state} ;;' for unit, state in self.states.items()),
            *(
                f'"show -P MainPID {unit}") echo {process.pid} ;;'
                for unit, process in self.running.items()
            ),
        ]
        # An unknown call is an error, which nobody expects.
        script = f'case "$*" in {" ".join(cases)} *) echo "unexpected: $*" >&2 ;; esac'
        self.stage.program("systemctl", script)
        return self.stage.run("liveness.py", self.api.url).splitlines()

    def killed(self) -> set[str]:
        """End all services; returns those that were killed before."""
        for process in self.running.values():
            process.terminate()  # to a process that was killed it means nothing
            process.send_signal(signal.SIGCONT)
        return {unit for unit, each in self.running.items() if each.wait(60) == -signal.SIGKILL}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """An api-server that answers nothing yet."""
    with ApiServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def host(stage: Stage, api: ApiServer) -> Iterator[Host]:
    """One on which all services run, and have for a while."""
    host = Host(stage, api)
    yield host
    host.killed()


@pytest.mark.parametrize("case", LOOKS)
def test_a_service_that_hangs_is_killed(case: str, host: Host) -> None:
    answers, killed = LOOKS[case]
    # The first look is before the pause, the second after it.
    host.api.answers = {HEALTH: [*answers]}
    said = host.look()
    assert host.killed() == set(killed)
    # One line of a level that the unit lets through.
    assert [line.split()[0] for line in said] == [f"<4>{unit}" for unit in killed]
    assert len(host.stage.called("sleep")) == len(answers) - 1
    for words in host.stage.called("curl"):
        assert words[words.index("-m") + 1] == "10"
        assert words[words.index("--noproxy") + 1] == "*"


@pytest.mark.parametrize(("age", "killed"), [(60, False), (240, False), (310, True)])
@pytest.mark.parametrize("stands_still", [False, True])
def test_a_silent_service_that_makes_progress_has_five_minutes(
    age: float, killed: bool, stands_still: bool, host: Host
) -> None:
    host.api.answers = {HEALTH: [health(age=age, scheduler="unhealthy")]}
    host.running["airflow-scheduler"].kill()
    host.running["airflow-scheduler"].wait(60)
    busy = subprocess.Popen(["sh", "-c", "for i in $(seq 2000); do sleep 0.05; done"])
    host.running["airflow-scheduler"] = busy
    if stands_still:
        busy.send_signal(signal.SIGSTOP)
    else:  # the pause is over when it got on
        host.stage.program(
            "sleep",
            f"was=$(grep ctxt /proc/{busy.pid}/status); for i in $(seq 600); do"
            f' test "$(grep ctxt /proc/{busy.pid}/status)" = "$was" || exit 0;'
            " /usr/bin/sleep 0.05; done",
        )
    host.look()
    assert host.killed() == ({"airflow-scheduler"} if killed or stands_still else set())


def test_a_service_without_a_process_kills_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number 0 would be the program itself, and all processes of its group."""
    program = fake.FILES / "usr/local/lib/airflow/liveness.py"
    monkeypatch.syspath_prepend(program.parent)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    kill = runpy.run_path(str(program))["kill"]
    monkeypatch.setitem(kill.__globals__, "main_process", lambda unit: 0)
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda number, _: killed.append(number))
    assert kill("airflow-scheduler") and killed == []


@pytest.mark.parametrize("state", ["inactive", "activating", "deactivating", "failed"])
def test_a_service_that_was_stopped_or_starts_is_left_alone(state: str, host: Host) -> None:
    host.api.answers = {HEALTH: [ALL_OLD]}
    host.states = dict.fromkeys(host.states, state)
    assert host.look() == []
    assert host.killed() == set()


def test_a_service_younger_than_a_minute_is_left_alone(host: Host) -> None:
    host.api.answers = {HEALTH: [ALL_OLD]}
    host.started("airflow-scheduler", seconds=40)
    host.started("airflow-triggerer", seconds=61)
    host.look()
    assert host.killed() == {"airflow-triggerer", "airflow-dag-processor"}


def test_one_of_several_hosts_kills_its_own_service(host: Host) -> None:
    host.api.answers = {HEALTH: [WELL]}  # of the newest heartbeats of all hosts
    host.stage.values["SEVERAL_HOSTS"] = "other"
    beat = (datetime.now(UTC) - timedelta(seconds=400)).isoformat()
    rows = f"echo metadatabase healthy; echo scheduler unhealthy {beat}; echo triggerer unknown"
    host.stage.program("psql", f"cat >/dev/null; {rows}; echo dag_processor healthy {beat}")
    assert len(host.look()) == 1
    assert host.killed() == {"airflow-scheduler"}


def test_a_database_that_does_not_tell_of_this_host_kills_nothing(host: Host) -> None:
    host.api.answers = {HEALTH: [ALL_OLD]}
    host.stage.values["SEVERAL_HOSTS"] = "other"
    host.stage.program("psql", "cat >/dev/null; exit 2")
    assert host.look() == []
    assert host.killed() == set()


def test_a_database_that_hangs_is_not_the_api_servers_fault(host: Host) -> None:
    host.api.answers = {HEALTH: [SILENT], "/no-such-page": ["there is none"]}
    assert host.look() == []
    assert host.killed() == set()
    assert not host.stage.called("systemctl")


# History


@pytest.mark.parametrize(("busy", "excluded"), [("", None), ("a,b", "a,b")])
def test_history_is_deleted_but_for_dags_with_runs_that_go_on(
    busy: str, excluded: str | None, stage: Stage
) -> None:
    stage.program("psql", f"echo {busy}")
    stage.program("airflow")
    stage.values["HISTORY_DAYS"] = "90"
    stage.run("clean-history.sh")
    others, runs = stage.called("airflow")
    for words in (others, runs):
        assert words[:4] == ["db", "clean", "--yes", "--skip-archive"]
        before = datetime.fromisoformat(_option(words, "--clean-before-timestamp"))
        assert abs(datetime.now(UTC) - timedelta(days=90) - before) < timedelta(minutes=1)
        assert f"start_date < '{before.isoformat()}'" in stage.calls.read_text()
    # DAGs would come back paused, and tasks wait for triggers.
    tables = [_option(words, "--tables").split(",") for words in (others, runs)]
    assert {"dag", "trigger"}.isdisjoint(tables[0] + tables[1])
    assert "dag_run" in tables[1] and "dag_run" not in tables[0]
    named = [[each for each in words if each.startswith("--exclude")] for words in (others, runs)]
    # In one word with its value: an id may begin with a dash.
    assert named == [[], [f"--exclude-dag-ids={excluded}"] if excluded else []]


def _option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_no_history_is_deleted_if_the_database_does_not_answer(stage: Stage) -> None:
    stage.program("psql", "exit 2")
    stage.program("airflow")
    stage.values["HISTORY_DAYS"] = "90"
    with pytest.raises(subprocess.CalledProcessError):
        stage.run("clean-history.sh")
    assert not stage.called("airflow")
