"""A person sees that something long is going on, and how long it took."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.operations import server

from tasks.lib import progress


def words_about(seconds: float, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages while an operation takes that long, on this machine."""
    state = State(Inventory((["@local"], {})), Config())
    state.add_callback_handler(progress.OperationTimer())
    connect_all(state)
    add_op(state, server.shell, name="Work", commands=[f"sleep {seconds}"])
    with caplog.at_level(logging.INFO, logger="pyinfra"):
        run_ops(state)
    return [record.getMessage().strip() for record in caplog.records]


def test_long_work_is_told_while_it_runs_and_when_it_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SAY_STILL_RUNNING_EVERY", 0.1)
    monkeypatch.setattr(progress, "SAY_DURATION_FROM", 0.2)
    words = words_about(0.5, caplog)
    assert any(said.startswith("still running after") and "Work" in said for said in words)
    assert any(said.startswith("took") for said in words)


def test_short_work_needs_no_word(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SAY_STILL_RUNNING_EVERY", "SAY_DURATION_FROM"):
        monkeypatch.setattr(progress, name, 60)
    words = words_about(0, caplog)
    assert not any(said.startswith(("still running", "took")) for said in words)


@pytest.mark.parametrize(("command", "said"), [("true", 2), ("false", 1)])
def test_nothing_is_promised_behind_an_error(
    command: str, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    words = progress.ClosingRemarks()
    words.sentences = {"a remark": False, "the web page is there": True}
    state = State(Inventory((["@local"], {})), Config())
    state.add_callback_handler(words)
    connect_all(state)
    add_op(state, server.shell, name="Work", commands=[command])
    with caplog.at_level(logging.INFO, logger="pyinfra"):
        with suppress(PyinfraError):
            run_ops(state)
        disconnect_all(state)
    messages = [record.getMessage().strip() for record in caplog.records]
    sentences = ["a remark", "the web page is there"]
    assert [each for each in messages if each in sentences] == sentences[:said]
