"""Say how long operations take, while they run and when they took long."""

from __future__ import annotations

import threading
import time
from typing import Any

from pyinfra import logger, state
from pyinfra.api.state import BaseStateCallback

SAY_STILL_RUNNING_EVERY = 15.0  # seconds
SAY_DURATION_FROM = 3.0  # seconds; shorter operations are not reported


class OperationTimer(BaseStateCallback):
    """Times one operation after the other, as pyinfra announces them."""

    _name = ""
    _started = 0.0
    _timer: threading.Timer | None = None

    def operation_start(self, state: Any, op_hash: str) -> None:  # type: ignore[override]
        """Start timing, and report if it takes long."""
        self._name = next(iter(state.get_op_meta(op_hash).names), "operation")
        self._started = time.monotonic()
        self._remind()

    def operation_end(self, state: Any, op_hash: str) -> None:  # type: ignore[override]
        """Stop timing; say how long it took if it took long."""
        if self._timer:
            self._timer.cancel()
        if (seconds := time.monotonic() - self._started) >= SAY_DURATION_FROM:
            logger.info(f"    took {seconds:.0f} s")

    def _remind(self) -> None:
        self._timer = threading.Timer(SAY_STILL_RUNNING_EVERY, self._still_running)
        self._timer.daemon = True
        self._timer.start()

    def _still_running(self) -> None:
        seconds = time.monotonic() - self._started
        logger.info(f"    still running after {seconds:.0f} s: {self._name}")
        self._remind()


class ClosingRemarks(BaseStateCallback):
    """Prints sentences at the end of a run."""

    def __init__(self) -> None:
        self.sentences: dict[str, bool] = {}  # and whether to say it only if no host failed

    def host_disconnect(self, state: Any, host: Any) -> None:  # type: ignore[override]
        """Print them once, when the first host is left."""
        for sentence, only_on_success in self.sentences.items():
            if not (only_on_success and state.failed_hosts):
                logger.info(f"    {sentence}")
        self.sentences.clear()


def print_at_end(sentence: str, *, only_on_success: bool = False) -> None:
    """Print a sentence once, after all operations; if `only_on_success`, then only if none failed.

    Behind an error, a sentence about a page that does not answer would hide it.
    """
    remarks = next((h for h in state.callback_handlers if isinstance(h, ClosingRemarks)), None)
    if remarks is None:
        remarks = ClosingRemarks()
        state.add_callback_handler(remarks)
    remarks.sentences[sentence] = only_on_success


def show() -> None:
    """Show progress in this run; once, even if several hosts load deploy.py."""
    if not any(isinstance(handler, OperationTimer) for handler in state.callback_handlers):
        state.add_callback_handler(OperationTimer())
