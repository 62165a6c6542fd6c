#!/usr/bin/python3 -B
"""health.py check|apply: all of Airflow's components are healthy. apply waits for up to a minute.

Written by the deploy of Airflow. liveness.py, which runs often, uses the same functions: so this
file imports little.
"""

import json
import os
import subprocess
import sys

from lib import fail, host, usage

PATH = "/api/v2/monitor/health"
COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
TRIES = 60  # a second apart
# The status of each component and the time of its last sign of life, empty if it has none.
States = dict[str, tuple[str, str]]


def run(*command: str, errors: int | None = None) -> tuple[bool, str]:
    """Whether a command succeeds, and its output; its errors go to those of this program."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8", errors="replace"
    )
    return done.returncode == 0, done.stdout.strip()


def wait(seconds: int) -> None:
    """Let time pass; tests bring a program that does not wait."""
    subprocess.run(["sleep", str(seconds)])


def states(answer: str) -> States:
    """The state of each component in the api-server's answer; empty if that is no such JSON."""
    try:
        found = json.loads(answer)
    except ValueError:
        return {}
    parts = found.items() if isinstance(found, dict) else ()
    return {
        name: (part.get("status") or "", part.get(f"latest_{name}_heartbeat") or "")
        for name, part in parts
        if isinstance(part, dict)
    }


def own(errors: int) -> tuple[bool, str, States]:
    """The health of the services of this host, one of several: whether it is known, and how."""
    program = os.path.join(os.path.dirname(__file__), "own-health.sh")
    known, answer = run(program, errors=errors)
    rows = [[*line.split(), ""] for line in answer.splitlines()]
    return known, answer, {row[0]: (row[1], row[2]) for row in rows if len(row) > 2}


def seconds(beat: str) -> int:
    """The Unix time of a sign of life."""
    from datetime import datetime  # liveness.py seldom needs it

    return int(datetime.fromisoformat(beat).timestamp())


def look(started: int) -> tuple[bool, str]:
    """Whether Airflow is healthy, and the answer that tells it."""
    url = host()["WEB_URL"] + PATH
    # The status of the answer is always 200; only its JSON tells.
    known, answer = run(
        *("curl", "-fsS", "--noproxy", "*", "-m", "10", url), errors=subprocess.STDOUT
    )
    found = states(answer)
    if known and host().get("SEVERAL_HOSTS"):
        known, answer, found = own(subprocess.STDOUT)
    well = all(is_well(*found.get(name, ("", "")), started) for name in COMPONENTS)
    return known and well, ", ".join(answer.splitlines())


def is_well(status: str, beat: str, started: int) -> bool:
    """Whether a component is healthy.

    One that lost its connection to PostgreSQL ends up to half a minute later, and is called healthy
    until then. A component that works has given a sign of life since PostgreSQL's start.
    """
    return status == "healthy" and (not beat or seconds(beat) > started)


def start_of_postgresql() -> int:
    """The Unix time at which PostgreSQL started; 0 for one elsewhere, which does not tell."""
    if not (cluster := host().get("PGCLUSTER")):
        return 0
    unit = f"postgresql@{cluster.replace('/', '-')}"
    _, time = run("systemctl", "show", "-P", "ActiveEnterTimestamp", "--timestamp=unix", unit)
    number = time.removeprefix("@")
    return int(number) if number.isdigit() else 0


def check() -> None:
    """Fail unless Airflow is healthy."""
    well, answer = look(start_of_postgresql())
    if not well:
        fail(f"Airflow is not healthy: {answer}")


def apply() -> None:
    """Fail unless Airflow becomes healthy."""
    started = start_of_postgresql()
    for _ in range(TRIES - 1):
        well, answer = look(started)
        if well:
            return
        wait(1)
    well, answer = look(started)
    if not well:
        logs = "Look at: journalctl -u 'airflow-*' -n 100"
        fail(f"Airflow is not healthy after a minute: {answer} {logs}")


def main() -> None:
    """Check, or wait."""
    match sys.argv[1:]:
        case ["check"]:
            check()
        case ["apply"]:
            apply()
        case _:
            usage()


if __name__ == "__main__":
    main()
