"""What a process has when it first forks is left out of later searches for garbage."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.fake import FILES

PROGRAM = """
import gc, os, weakref
import airflow_deploy_memory

class Node:
    pass

def garbage():
    node = Node()
    node.itself = node
    return weakref.ref(node)

airflow_deploy_memory.install()
old, frozen = garbage(), []
for _ in range(2):
    if not (child := os.fork()):
        os._exit(0 if gc.get_freeze_count() else 1)
    assert os.waitpid(child, 0)[1] == 0, "the child searches through all that it shares"
    frozen.append(gc.get_freeze_count())
    new = garbage()
assert frozen[0] > 1000 and frozen[1] == frozen[0], "later forks add to what is never searched"
assert old() is None, "the garbage of before was kept"
gc.collect()
assert new() is None, "later garbage is kept"
"""

# What is registered last is called first. A function of C lets the signal wait for the next code
# in Python: it should be what follows the fork.
WITH_A_SIGNAL = """
import ctypes, functools, os, signal, sys
import airflow_deploy_memory

def stop(*_):
    sys.exit(7)

signal.signal(signal.SIGTERM, stop)
airflow_deploy_memory.install()
if not (child := os.fork()):
    os._exit(0)
os.waitpid(child, 0)
kill = ctypes.CDLL(None).kill
os.register_at_fork(before=functools.partial(kill, os.getpid(), signal.SIGTERM))
if not os.fork():
    os._exit(0)
"""


def run(program: str) -> tuple[int, str]:
    """How a program ends that can load the deploy's modules, and its errors."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env={"PYTHONPATH": str(FILES / "usr/local/lib/airflow/python")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_the_first_fork_freezes_what_there_is() -> None:
    assert run(PROGRAM) == (0, "")


def test_a_signal_at_a_fork_is_not_lost() -> None:
    assert run(WITH_A_SIGNAL) == (7, "")
