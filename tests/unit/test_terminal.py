"""Nothing that a host says drives the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import click
import pytest
from pyinfra import logger
from pyinfra.api import output
from pyinfra.operations import server

from tasks.lib import lock, terminal
from tests.unit import fake

TITLE = "\x1b]0;owned\x07"
SHOWN = r"\x1b]0;owned\x07"


@pytest.fixture
def protected() -> Iterator[None]:
    """As the deploy sets it up; afterwards as it was."""
    echo, filters = output._echo, list(logger.filters)
    logger.filters.clear()  # another test may have planned a whole deploy
    terminal.show_only_text()
    terminal.show_only_text()
    assert len(logger.filters) == 1
    yield
    output.set_echo(echo)
    logger.filters[:] = filters


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (TITLE, SHOWN),
        ("\x1b[2J", r"\x1b[2J"),
        ("over\rwritten", r"over\rwritten"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("\x9b2J", r"\x9b2J"),
        ("two\nlines\tand «Grüße» 100 %", "two\nlines\tand «Grüße» 100 %"),
        (click.style("red", "red"), click.style("red", "red")),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert terminal.printable(text) == shown


def test_the_output_of_a_command_that_fails_is_text(
    protected: None, caplog: pytest.LogCaptureFixture
) -> None:
    command = r"printf '\033]0;owned\007 100%%\n' >&2; exit 1"
    with caplog.at_level(logging.INFO, logger="pyinfra"):
        fake.run(server.shell, commands=[command])
    assert f"{SHOWN} 100%" in caplog.text and "\x07" not in caplog.text


def test_output_that_is_asked_for_is_text(
    protected: None, capsys: pytest.CaptureFixture[str]
) -> None:
    output.echo(f"says {TITLE}", err=True)
    assert capsys.readouterr().err == f"says {SHOWN}\n"


def test_the_holder_of_the_lock_is_named_as_text() -> None:
    assert SHOWN in terminal.printable(lock.refusal(TITLE))
