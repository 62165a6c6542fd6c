"""What the worker image starts with, by processes of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.fake import FILES

SCRIPT = FILES / "image/start_task.py"
# In the place of Airflow's program: what it finds, and how it is in and after two forks.
PROGRAM = """
import gc, os, sys
if __name__ != "__main__":
    raise SystemExit("not run as a program")
def tell(who):
    print(who, "collects", gc.isenabled(), "frozen", gc.get_freeze_count() > 0, flush=True)
print(sys.argv[1:], os.path.basename(sys.argv[0]), sys.path[0] == os.getcwd(), flush=True)
tell("before")
for name in ("first", "second"):
    gc.unfreeze() if name == "second" else None
    if not (child := os.fork()):
        tell(name)
        os._exit(0)
    os.waitpid(child, 0)
    tell("parent")
os.umask(umask := os.umask(0))
print("umask", oct(umask), flush=True)
"""


def start(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a program and its arguments, in a folder."""
    words = [sys.executable, str(SCRIPT), *command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def airflow(tmp_path: Path) -> Path:
    """A folder in which `python -m` finds the program by its name."""
    package = tmp_path / "airflow/sdk/execution_time"
    package.mkdir(parents=True)
    (package / "execute_workload.py").write_text(PROGRAM)
    return tmp_path


def test_garbage_is_not_looked_for_until_the_task_is_forked_off(airflow: Path) -> None:
    module = "airflow.sdk.execution_time.execute_workload"
    done = start(airflow, "python", "-m", module, "--json-string", "{}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['--json-string', '{}'] execute_workload.py True",
        "before collects False frozen False",
        "first collects True frozen True",
        "parent collects True frozen True",
        # What comes later is collected, also when the task forks itself.
        "second collects True frozen False",
        "parent collects True frozen False",
        # Tasks of another user, with the same group, write logs into the same folders.
        "umask 0o2",
    ]


def test_other_programs_are_run_as_they_are(tmp_path: Path) -> None:
    assert start(tmp_path, "sh", "-c", "echo $0 $1; exit 7", "a", "b").stdout == "a b\n"
    assert start(tmp_path, "sh", "-c", "exit 7").returncode == 7
    assert start(tmp_path, "python", "-c", "import gc; print(gc.isenabled())").stdout == "True\n"
