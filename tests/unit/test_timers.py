"""What runs from time to time: its units, and what its scripts do; their programs are stood in."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks import image, services, timers
from tests.unit import fake, formats
from tests.unit.fake import FILES, Plan
from tests.unit.formats import Unit

UNITS = services.UNITS_DIRECTORY
NOTHING_KEPT = {
    "worker_failed_pods_minutes": 0,
    "airflow_log_days": 0,
    "airflow_history_days": 0,
    "airflow_backups_kept": 0,
}


def units(plan: Plan, name: str) -> tuple[Unit, Unit]:
    """A timer and its service as systemd reads them."""
    timer, service = (
        plan.uploads[f"{UNITS}/airflow-{name}.{kind}"] for kind in ("timer", "service")
    )
    return Unit.parse(timer), Unit.parse(service)


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
        for command in service.all("Service.ExecStart"):
            assert formats.unit_words(command)[0].startswith("/")
        # It goes on when the target stops: half a clean-up may be worse than a late one.
        assert not service.all("Unit.PartOf")
    (command,) = variant.named("Run the timers").commands[1:]
    assert set(shlex.split(command)[4:]) == {Path(path).name for path in written}


# The backup becomes postgres, and reads what is postgres' own.
CAPABILITIES = {
    "liveness": ["CAP_KILL"],
    "backup": ["CAP_SETUID CAP_SETGID CAP_DAC_READ_SEARCH"],
}


def test_what_timers_start_is_sandboxed(variant: Plan) -> None:
    for timer in timers.timers(fake.DEFAULTS.on_release("bookworm")):
        if f"{UNITS}/{timer.units[1]}" not in variant.uploads:
            continue
        _, service = units(variant, timer.name)
        assert service.one("Service.User") == timer.user
        assert service.one("Service.ProtectSystem") == "strict"
        assert service.one("Service.NoNewPrivileges") == "yes"
        capabilities = service.all("Service.CapabilityBoundingSet")[1:]
        assert capabilities == CAPABILITIES.get(timer.name, [])
        assert not service.all("Service.EnvironmentFile")


def test_zero_days_is_not_at_all() -> None:
    plan = fake.plan(fake.settings(NOTHING_KEPT))
    assert [Path(path).stem for path in plan.uploads if path.endswith(".timer")] == [
        "airflow-liveness",
        "airflow-cleanup-images",
        "airflow-certificate",
    ]
    for name in ("cleanup-pods", "cleanup-history", "cleanup-logs"):
        (command,) = plan.named(f"Remove airflow-{name}").commands
        assert f"disable --quiet --now airflow-{name}.timer" in command


def test_log_files_are_found_where_they_are_written() -> None:
    given = {**fake.VARIANTS["claims"], "airflow_log_days": 7}
    _, service = units(fake.plan(fake.settings(given)), "cleanup-logs")
    files, folders = map(formats.unit_words, service.all("Service.ExecStart"))
    assert files[1:3] == folders[1:3] == ["/var/log/airflow", "/srv/logs"]
    assert service.all("Service.ReadWritePaths")[1:] == ["/srv/logs"]
    assert files[-2:] == ["+6", "-delete"]


def test_only_log_files_that_are_too_old_are_deleted(tmp_path: Path) -> None:
    _, service = units(fake.plan(fake.settings({"airflow_log_days": 7})), "cleanup-logs")
    ages = {"a/old.log": 7.1, "a/young.log": 6.9, "b/old.log": 8, "b/notes.txt": 8, "c/old.log": 8}
    for name, days in ages.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        _age(path, days)
    for folder in ("long-empty", "just-made"):
        (tmp_path / folder).mkdir()
    _age(tmp_path / "long-empty", 1.1)
    for command in service.all("Service.ExecStart"):
        words = [
            str(tmp_path) if w == "/var/log/airflow" else w for w in formats.unit_words(command)
        ]
        subprocess.run(words, check=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    # A folder that became empty goes a day later.
    assert left == {"a", "a/young.log", "b", "b/notes.txt", "c", "just-made"}


def _age(path: Path, days: float) -> None:
    then = path.stat().st_mtime - days * 86400
    os.utime(path, (then, then))


class Stage:
    """A folder of programs that stand in for the real ones, and say how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.touch()

    def program(self, name: str, script: str = "") -> str:
        """Add a program; returns its path."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{script}\n')
        path.chmod(0o755)
        return str(path)

    def run(self, script: str, *arguments: str) -> str:
        """Run one of the deploy's scripts; returns what it prints."""
        environment = {"PATH": f"{self.folder}:/usr/bin:/bin"}
        command = ["sh", str(FILES / script.lstrip("/")), *arguments]
        done = subprocess.run(
            command, env=environment, text=True, capture_output=True, check=True, timeout=20
        )
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
    """What the api-server answers, written as it does; the last signs of life are so old (s)."""
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

# What the api-server answers at the first look and at the second, and which units are killed.
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


@pytest.fixture
def services_up(stage: Stage) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A process for each unit, which systemctl knows; they stand still."""
    running = {
        f"airflow-{service.name}": subprocess.Popen(["sleep", "60"])
        for service in services.SERVICES
    }
    pids = " ".join(f"{unit}) echo {process.pid} ;;" for unit, process in running.items())
    stage.program(
        "systemctl",
        f"case $1 in is-active) echo active ;; show) case $4 in {pids} esac ;; esac",
    )
    stage.program("find", "echo found")
    yield running
    for process in running.values():
        process.kill()
        process.wait()


def ended(running: dict[str, subprocess.Popen[bytes]]) -> set[str]:
    """Units whose process was killed; the others are seen to go on."""
    left = {}
    for unit, process in running.items():
        with contextlib.suppress(subprocess.TimeoutExpired):
            left[unit] = process.wait(0.1)
    assert set(left.values()) <= {-signal.SIGKILL}
    return set(left)


@pytest.mark.parametrize("case", LOOKS)
def test_what_hangs_is_killed(
    case: str, stage: Stage, services_up: dict[str, subprocess.Popen[bytes]]
) -> None:
    answers, killed = LOOKS[case]
    for number, answer in enumerate(answers):
        (stage.folder / f"answer-{number}").write_text(answer)
    # The first look is before the pause, the second after it.
    stage.program(
        "curl",
        f"answer={stage.folder}/answer-$(grep -c ^sleep {stage.calls})\n"
        'test -s "$answer" || exit 28\ncat "$answer"',
    )
    stage.program("sleep")
    said = stage.run(timers.LIVENESS, "http://127.0.0.1:8080")
    assert ended(services_up) == set(killed)
    # One line of a level that the unit lets through.
    assert [line.split()[0] for line in said.splitlines()] == [f"<4>{unit}" for unit in killed]
    assert len(stage.called("sleep")) == len(answers) - 1


@pytest.mark.parametrize(("age", "killed"), [(60, False), (290, False), (310, True)])
def test_what_gets_on_in_silence_has_five_minutes(age: float, killed: bool, stage: Stage) -> None:
    stage.program("curl", f"echo '{health(age=age, scheduler='unhealthy')}'")
    stage.program("find", "echo found")
    stage.program("sleep", "/usr/bin/sleep 1")
    with subprocess.Popen(["sh", "-c", "for i in $(seq 200); do sleep 0.1; done"]) as busy:
        stage.program(
            "systemctl", f"case $1 in is-active) echo active ;; show) echo {busy.pid} ;; esac"
        )
        assert bool(stage.run(timers.LIVENESS, "http://127.0.0.1:8080")) is killed
        if not killed:
            busy.send_signal(signal.SIGSTOP)
            assert stage.run(timers.LIVENESS, "http://127.0.0.1:8080") != ""
        assert busy.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("state", "age"),
    [("inactive", "old"), ("activating", "old"), ("deactivating", "old"), ("active", "")],
)
def test_what_was_stopped_or_just_started_is_left_alone(state: str, age: str, stage: Stage) -> None:
    stage.program("curl", f"echo '{ALL_OLD}'")
    stage.program("sleep")
    stage.program("find", f"echo {age}" if age else "")
    stage.program("systemctl", f"echo {state}")
    assert stage.run(timers.LIVENESS, "http://127.0.0.1:8080") == ""
    assert {words[0] for words in stage.called("systemctl")} == {"show", "is-active"}
    # What each start of a unit leaves behind.
    for words in stage.called("find"):
        assert words[0].startswith(f"{services.STARTED_WITH}/airflow-")


def test_a_database_that_hangs_is_not_the_api_servers_fault(stage: Stage) -> None:
    stage.program("curl", 'case "$*" in */health) exit 28 ;; *) exit 0 ;; esac')
    assert stage.run(timers.LIVENESS, "http://127.0.0.1:8080") == ""
    assert not stage.called("systemctl")


# Images

# The images of the node, from the youngest to the oldest: the repositories of the last four are
# not the deploy's.
IMAGES = [
    "localhost/airflow-worker:current",
    "registry.example/airflow:young",
    "localhost/airflow-worker:used",
    "localhost/airflow-worker:old",
    "registry.example/airflow:oldest",
    "registry.example/airflow-dashboards:1",
    "localhost/airflow-worker-mine:1",
    "registry.k8s.io/pause:3.10",
    "registry.example/other/airflow:1",
]


@pytest.mark.parametrize(
    ("kept", "removed"), [(1, [1, 3, 4]), (2, [3, 4]), (3, [4]), (4, []), (9, [])]
)
def test_old_images_are_removed_but_not_those_in_use(
    kept: int, removed: list[int], stage: Stage
) -> None:
    stage.program("ctr", f"printf '%s\\n' {' '.join(reversed(IMAGES))}")
    ages = " ".join(f"{name}) day={30 - number} ;;" for number, name in enumerate(IMAGES))
    stage.program(
        "crictl",
        f'test "$2" = inspecti || exit 0; for name; do :; done; case $name in {ages} esac;'
        ' echo "2026-11-${day}T10:00:00Z $name"',
    )
    kubectl = stage.program("kubectl", f"echo registry.k8s.io/pause:3.10 {IMAGES[2]}")
    (stage.folder / "repositories").write_text("registry.example/airflow\n")
    rest = (str(kept), IMAGES[0], f"{stage.folder}/repositories", kubectl, "--context=here")
    surplus = [IMAGES[number] for number in removed]
    assert stage.run(image.PRUNE, "list", *rest).split() == surplus
    assert not [words for words in stage.called("crictl") if words[1] == "rmi"]
    stage.run(image.PRUNE, "remove", *rest)
    assert [words[2] for words in stage.called("crictl") if words[1] == "rmi"] == surplus


def test_no_image_is_removed_if_the_cluster_does_not_answer(stage: Stage) -> None:
    stage.program("ctr", f"printf '%s\\n' {' '.join(IMAGES)}")
    stage.program("crictl")
    kubectl = stage.program("kubectl", "exit 1")
    with pytest.raises(subprocess.CalledProcessError):
        stage.run(image.PRUNE, "remove", "1", IMAGES[0], "/dev/null", kubectl)
    assert not stage.called("crictl")


# History


@pytest.mark.parametrize(("busy", "excluded"), [("", None), ("a,b", "a,b")])
def test_history_is_deleted_but_for_dags_with_runs_that_go_on(
    busy: str, excluded: str | None, stage: Stage
) -> None:
    stage.program("psql", f"echo {busy}")
    stage.run(timers.CLEAN_HISTORY, "90", stage.program("airflow"))
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
    assert "--exclude-dag-ids" not in others
    assert (_option(runs, "--exclude-dag-ids") if excluded else None) == excluded


def _option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_no_history_is_deleted_if_the_database_does_not_answer(stage: Stage) -> None:
    stage.program("psql", "exit 2")
    with pytest.raises(subprocess.CalledProcessError):
        stage.run(timers.CLEAN_HISTORY, "90", stage.program("airflow"))
    assert not stage.called("airflow")
