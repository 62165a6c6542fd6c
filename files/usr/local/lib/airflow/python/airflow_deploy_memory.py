"""A process and its children keep sharing the memory that it had at its first fork.

A search for garbage writes to every object that it looks at, so Linux copies all of them for the
process that searches: 70 MB of the scheduler's. At the first fork the memory holds modules, which
stay, so no later search looks at them. Python recommends it:
https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc
import os
from collections import deque
from functools import partial
from operator import call


def install() -> None:
    """Leave all present objects out of later searches, before the first fork of this process.

    Later forks add nothing, so nothing piles up: the iterator has ended by then. Nothing here is
    code in Python, since Python would handle signals in it and ignore the exceptions of their
    handlers: a scheduler that should end at a SIGTERM would go on.
    https://docs.python.org/3/library/os.html#os.register_at_fork
    """
    steps = map(call, (gc.collect, gc.freeze))
    os.register_at_fork(before=partial(deque, steps, 0))
