"""What tests of all kinds share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: Callable[[], T], seconds: float, why: str, every: float = 0.3) -> T:
    """The first true value that `what` returns; fails with `why` if there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := what():
            return result
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {why}")
