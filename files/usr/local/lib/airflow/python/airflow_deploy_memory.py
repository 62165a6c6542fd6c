"""A process and its children go on sharing the memory of what it had when the first one began.

A search for garbage writes to every object that it looks at, so Linux copies all of them for the
process that searches: 70 MB of the scheduler's. What is there at the first fork is modules, which
stay, so no search looks at it any more. Python recommends it:
https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc
import os


def freeze_once() -> None:
    """Leave what there is out of later searches. Later forks add nothing, so nothing piles up."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def install() -> None:
    """Do so before the first fork of this process."""
    os.register_at_fork(before=freeze_once)
