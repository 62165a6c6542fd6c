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


def test_the_first_fork_freezes_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM],
        env={"PYTHONPATH": str(FILES / "usr/local/lib/airflow/python")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
