"""The programs that run Airflow's services, with stubs for systemd and for Airflow."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tasks import layout
from tests.unit.fake import FILES

PROGRAMS = FILES / layout.LIB.lstrip("/")
UNIT = "airflow-scheduler.service"


class Host(NamedTuple):
    """A folder with stub programs and the values of a host."""

    folder: Path

    def stub(self, name: str, script: str) -> None:
        """Add a program that also notes how it was called."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.folder}/calls\n{script}\n')
        path.chmod(0o755)

    def run(
        self, program: str, *arguments: str, postgres: str = "15/main"
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the deploy's programs."""
        values = self.folder / "host.env"
        values.write_text(
            f"STARTED_WITH={self.folder}\nWEB_URL=http://127.0.0.1:8080\nSTATE={self.folder}\n"
            f"UNITS='airflow.target {UNIT}'\nPGCLUSTER={postgres}\n"
        )
        return subprocess.run(
            [PROGRAMS / program, *arguments],
            env={"PATH": f"{self.folder}:/usr/bin:/bin", "AIRFLOW_HOST_ENV": str(values)},
            text=True,
            capture_output=True,
            timeout=60,
        )

    @property
    def calls(self) -> list[str]:
        """How the stubs were called."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One on which a unit runs with its inputs as they are."""
    found = Host(tmp_path)
    config = tmp_path / "airflow.cfg"
    config.write_text("one")
    checksum = hashlib.sha256(b"one").hexdigest()
    (tmp_path / UNIT).write_text(f"{checksum}  {config}\n")
    found.stub("systemctl", "echo active")
    return found


# Units


def test_a_unit_that_runs_with_its_inputs_is_left_alone(host: Host) -> None:
    done = host.run("run-unit.sh", "check", UNIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_a_unit_that_does_not_run_is_told(state: str, host: Host) -> None:
    host.stub("systemctl", f"echo {state}; exit 3")
    done = host.run("run-unit.sh", "check", UNIT)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{UNIT} is {state}\n")


@pytest.mark.parametrize("harm", ["changed", "gone", "never recorded"])
def test_a_unit_that_started_with_other_inputs_is_told(harm: str, host: Host) -> None:
    if harm == "changed":
        (host.folder / "airflow.cfg").write_text("two")
    else:
        (host.folder / ("airflow.cfg" if harm == "gone" else UNIT)).unlink()
    done = host.run("run-unit.sh", "check", UNIT)
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"{UNIT} started before its inputs changed")
    assert ("airflow.cfg" in said) is (harm != "never recorded")


def test_a_unit_is_restarted_also_after_failures(host: Host) -> None:
    done = host.run("run-unit.sh", "apply", UNIT)
    assert done.returncode == 0
    assert host.calls == [f"systemctl reset-failed {UNIT}", f"systemctl restart {UNIT}"]


def test_a_unit_that_does_not_start_tells_its_journal(host: Host) -> None:
    host.stub("systemctl", "test $1 != restart")
    # The code of DAGs may have written it, also for the terminal.
    host.stub("journalctl", r"printf 'wh\303\274 \033[2J\r\n\tso\n'")
    done = host.run("run-unit.sh", "apply", UNIT)
    assert (done.returncode, done.stderr) == (1, "whü [2J\n\tso\n")


def test_units_of_services_are_read_again_and_enabled(host: Host) -> None:
    assert host.run("load-units.sh", "apply", "services").returncode == 0
    assert host.calls == [
        "systemctl daemon-reload",
        f"systemctl enable --quiet airflow.target {UNIT} {layout.WEB_SOCKET}",
    ]


@pytest.mark.parametrize(
    ("states", "difference"),
    [
        ({}, ""),
        ({"show": "no\nyes"}, "systemd has not read the units as they are on the disk"),
        ({"is-enabled": "disabled"}, "airflow.target is not enabled"),
        ({"is-active": "inactive"}, ""),  # that is another step
    ],
)
def test_units_of_services_are_compared(
    states: dict[str, str], difference: str, host: Host
) -> None:
    answers = {"show": "no\nno", "is-enabled": "enabled", "is-active": "active"} | states
    cases = " ".join(f"{verb}) echo '{said}' ;;" for verb, said in answers.items())
    host.stub("systemctl", f"case $1 in {cases} esac")
    done = host.run("load-units.sh", "check", "services")
    assert (done.returncode, done.stdout) == (1 if difference else 0, "")
    assert done.stderr.startswith(difference) and len(done.stderr.splitlines()) <= 1


@pytest.mark.parametrize(
    "words",
    [
        ("run-unit.sh",),
        ("run-unit.sh", "check"),
        ("run-unit.sh", "restart", UNIT),
        ("load-units.sh", "check"),
        ("load-units.sh", "apply", "everything"),
    ],
)
def test_a_wrong_call_is_answered_with_the_usage(words: tuple[str, ...], host: Host) -> None:
    done = host.run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {words[0]} check|apply")
    assert host.calls == []


# Health

COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")


def answer(**others: str) -> str:
    """The answer of the api-server, as it writes it."""
    states = {name: {"status": others.get(name, "healthy")} for name in COMPONENTS}
    return json.dumps(states, separators=(",", ":"))


def test_airflow_is_healthy_if_all_of_its_components_are(host: Host) -> None:
    host.stub("curl", f"echo '{answer()}'")
    done = host.run("health.py", "check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (call,) = [each for each in host.calls if each.startswith("curl")]
    assert call.endswith(" http://127.0.0.1:8080/api/v2/monitor/health")


@pytest.mark.parametrize("component", COMPONENTS[1:])
def test_a_sign_of_life_from_before_postgresqls_start_is_none(component: str, host: Host) -> None:
    states = json.loads(answer())
    for name in COMPONENTS[1:]:
        states[name][f"latest_{name}_heartbeat"] = "2026-11-26T10:42:00.566277+00:00"
    states[component][f"latest_{component}_heartbeat"] = "2026-11-26T10:41:55.566277+00:00"
    host.stub("curl", f"echo '{json.dumps(states, separators=(',', ':'))}'")
    for second, code in ((54, 0), (57, 1)):
        start = datetime(2026, 11, 26, 10, 41, second, tzinfo=UTC)
        host.stub(
            "systemctl",
            f'[ "$5" = postgresql@15-main ] && echo @{start.timestamp():.0f}',
        )
        assert host.run("health.py", "check").returncode == code


def test_a_postgresql_of_others_does_not_tell_when_it_started(host: Host) -> None:
    host.stub("curl", f"echo '{answer()}'")
    host.stub("systemctl", f"echo @{datetime.now(UTC).timestamp():.0f}")
    assert host.run("health.py", "check", postgres="").returncode == 0
    assert not [each for each in host.calls if each.startswith("systemctl")]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_that_is_not_healthy_is_told(component: str, host: Host) -> None:
    host.stub("curl", f"echo '{answer(**{component: 'unhealthy'})}'")
    done = host.run("health.py", "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert component in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_minute_is_given_to_become_healthy(host: Host) -> None:
    host.stub("sleep", "")
    host.stub("systemctl", "echo @0")
    host.stub(
        "curl",
        f"test $(grep -c curl {host.folder}/calls) -gt 60 && exit 0; echo '{answer()}' | "
        f"if test $(grep -c curl {host.folder}/calls) -lt 60; then exit 7; else cat; fi",
    )
    assert host.run("health.py", "apply").returncode == 0
    assert host.calls.count("sleep 1") == 59
    assert len([call for call in host.calls if call.startswith("systemctl show")]) == 1
    host.stub("curl", "exit 7")
    done = host.run("health.py", "apply")
    assert done.returncode == 1
    assert "not healthy after a minute" in done.stderr and "journalctl -u" in done.stderr


# The dag-processor


def test_a_dag_processor_that_loses_signals_is_asked_again(host: Host) -> None:
    # It ends at the second signal only.
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap 'trap - TERM' TERM; echo; while :; do /usr/bin/sleep 0.1; done"],
        stdout=subprocess.PIPE,
    )
    assert stubborn.stdout and stubborn.stdout.readline()  # it has the trap
    host.stub("timeout", 'test "$1" -gt 10 && shift && exec /usr/bin/timeout 0.4 "$@"')
    try:
        # systemd, too, takes note of a process that has ended.
        stop = subprocess.Popen(
            [PROGRAMS / "stop-dag-processor.sh", str(stubborn.pid)],
            env={"PATH": f"{host.folder}:/usr/bin:/bin"},
        )
        assert stubborn.wait(60) == -signal.SIGTERM
        assert stop.wait(60) == 0
    finally:
        stubborn.kill()
        stubborn.stdout.close()
    assert len(host.calls) >= 2


def test_a_dag_processor_that_has_ended_is_left_alone(host: Host) -> None:
    done = host.run("stop-dag-processor.sh")
    assert (done.returncode, done.stderr, host.calls) == (0, "", [])
