"""How the scheduler is stopped: with processes that have its children, and none of Airflow."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks.layout import ROOT

STOP = ROOT / "files/usr/local/lib/airflow/stop-scheduler.sh"
# As Airflow does it: the handlers of its signals are inherited, and end the first process only.
BEGIN = """
import multiprocessing
import signal
import sys
import time
from multiprocessing.managers import SyncManager


def end(*_):
    if multiprocessing.parent_process() is None:
        sys.exit(0)


def forever():
    print("begun", flush=True)
    while True:
        time.sleep(60)


signal.signal(signal.SIGTERM, end)
"""
CHILDREN = {
    # Python itself waits for it at the end.
    "a watcher": "multiprocessing.Process(target=forever).start(); time.sleep(600)",
    # It has ignored SIGINT, and has not said its address yet.
    "queues that just start": "SyncManager().start(forever)",
}


@pytest.mark.parametrize("child", CHILDREN)
def test_no_child_keeps_the_scheduler(child: str, tmp_path: Path) -> None:
    program = tmp_path / "scheduler.py"
    program.write_text(f"{BEGIN}\nif __name__ == '__main__':\n    {CHILDREN[child]}\n")
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as scheduler:
        assert scheduler.stdout
        assert scheduler.stdout.readline() == "begun\n"
        # As systemd does it: a process that has ended is there until its parent knows.
        threading.Thread(target=scheduler.wait, daemon=True).start()
        try:
            # Its children never end by themselves, and the unit gives it half a minute.
            subprocess.run([STOP, str(scheduler.pid)], check=True, timeout=30)
            assert scheduler.stdout.read() == "", "no child has its output any more"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(scheduler.pid, signal.SIGKILL)
    assert scheduler.returncode == 0
