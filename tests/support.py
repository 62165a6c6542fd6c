"""Helpers for tests of several kinds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Exposure as systemd computes it, times 10: from 0 to 100. Services without a sandbox have 92.
MAX_EXPOSURE = 15
BACKUP_EXPOSURE = 22  # to an existing database


def wait_for(what: Callable[[], T], seconds: float, why: str, every: float = 0.3) -> T:
    """The first true value that `what` returns; fails with `why` if there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := what():
            return result
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {why}")
