"""Show the output of hosts as plain text, so that nothing in it drives the terminal.

Messages quote tasks, servers and processes of the host, which may print anything.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import click
from pyinfra import logger
from pyinfra.api.output import set_echo

STYLE = re.compile(r"(\x1b\[[0-9;]*m)")  # pyinfra's own colours; at worst a text has its own


def printable(text: str) -> str:
    """The text, with unprintable characters as Python escapes them."""
    parts = STYLE.split(text)
    parts[::2] = ["".join(map(_shown, part)) for part in parts[::2]]
    return "".join(parts)


def _shown(character: str) -> str:
    return character if character.isprintable() or character in "\n\t" else repr(character)[1:-1]


class _Printable(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


def _echo(message: Any = None, **options: Any) -> None:
    click.echo(printable(message) if isinstance(message, str) else message, **options)


def show_only_text() -> None:
    """pyinfra shows only printable text in this run, also with -v."""
    if not any(isinstance(each, _Printable) for each in logger.filters):
        logger.addFilter(_Printable())
    set_echo(_echo)
