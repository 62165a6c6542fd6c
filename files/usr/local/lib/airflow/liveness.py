#!/usr/bin/python3 -BES
"""liveness.py URL: kill each of Airflow's services that hangs without ending, so that systemd
starts it again; a service that hangs does not end when systemd asks it to. URL is the api-server's
address. Written by the deploy of Airflow; airflow-liveness.timer starts it.

The heartbeat that each service leaves in the database counts, with Airflow's own thresholds. A
service that waits for a slow cluster leaves none although it works: it has five minutes.

It runs each 10 seconds, so it starts without Python's packages (-ES).
"""

import os
import signal
import subprocess
import sys
import time

import health
from lib import host, usage

SERVICES = ("scheduler", "triggerer", "dag-processor")
# This is longer than from one heartbeat to the next (5 s): after a pause of the machine or of the
# database, all heartbeats are old for a moment.
PAUSE = 6
YOUNG = 60  # seconds
PATIENCE = 300  # seconds without a sign of life, of a service that makes progress


def fetch(url: str, *options: str) -> tuple[bool, str]:
    """Whether the api-server answers, and its answer."""
    return health.run("curl", "-s", "--noproxy", "*", "-m", "10", *options, url)


def silent(url: str, several: bool) -> dict[str, str]:
    """The units that give no sign of life, each with the time of its last one, if that is known."""
    answered, answer = fetch(url + health.PATH)
    if not answered:
        # The answer needs the database, which may hang instead. The api-server knows without the
        # database that a page does not exist.
        answered, _ = fetch(f"{url}/no-such-page", "-o", "/dev/null")
        return {} if answered else {"airflow-api-server": ""}
    found = health.own(subprocess.DEVNULL)[2] if several else health.states(answer)
    if found.get("metadatabase", ("", ""))[0] != "healthy":
        return {}
    parts = {f"airflow-{name}": found.get(name.replace("-", "_"), ("", "")) for name in SERVICES}
    # A service that never gave a sign of life does not hang: it has not begun yet.
    return {unit: beat for unit, (status, beat) in parts.items() if status == "unhealthy" and beat}


def main_process(unit: str) -> int:
    """The number of a unit's process, 0 if it has none."""
    _, number = health.run("systemctl", "show", "-P", "MainPID", unit)
    return int(number) if number.isdigit() else 0


def steps(unit: str, several: bool) -> list[str]:
    """How far the main thread of a unit is: how often it gave up the processor.

    With several hosts the dag-processor is a child of the program that makes it the only one.
    """
    process = str(main_process(unit))
    if several and unit == "airflow-dag-processor":
        _, child = health.run("pgrep", "-P", process, "-x", "airflow")
        process = child or process
    try:
        with open(f"/proc/{process}/status") as status:
            return [line for line in status if "ctxt_switches" in line]
    except OSError:
        return []


def is_old(unit: str, folder: str) -> bool:
    """Whether a unit runs, neither stopped nor starting, and started more than a minute ago."""
    if health.run("systemctl", "is-active", unit)[1] != "active":
        return False
    try:
        return time.time() - os.stat(f"{folder}/{unit}.service").st_mtime > YOUNG
    except OSError:
        return False


def kill(unit: str) -> bool:
    """Kill a unit's process; returns whether that is possible."""
    print(
        f"<4>{unit} hangs: it gave no sign of life for too long, and systemd starts it again",
        flush=True,
    )
    process = main_process(unit)
    try:
        if process:  # 0 would be this program
            os.kill(process, signal.SIGKILL)
    except OSError as error:
        print(f"{unit}: {error}", file=sys.stderr)
        return False
    return True


def main() -> None:
    """Look twice, and kill the services that are silent both times."""
    if len(sys.argv) != 2:
        usage()
    url, several = sys.argv[1], bool(host().get("SEVERAL_HOSTS"))
    first = silent(url, several)
    if not first:
        return
    before = {unit: steps(unit, several) for unit in first}
    health.wait(PAUSE)
    second = silent(url, several)
    killed = []
    for unit, beat in first.items():
        if unit not in second or not is_old(unit, host()["STARTED_WITH"]):
            continue
        age = int(time.time()) - health.seconds(beat) if beat else PATIENCE
        if age >= PATIENCE or steps(unit, several) == before[unit]:
            killed.append(kill(unit))
    if not all(killed):
        sys.exit(1)


if __name__ == "__main__":
    main()
