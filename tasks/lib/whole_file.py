"""Files that appear whole: pyinfra's `files.put` and `files.template` write in place.

A connection that breaks, or a loss of power, would leave half of a file, which the next boot reads.
Here the new content is uploaded beside the file, may be checked there, and takes its place in one
step. One question tells whether the file is as it should be; pyinfra's operations ask three.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Generator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, operation
from pyinfra.facts.server import Command
from pyinfra.operations import files

from tasks.layout import ROOT
from tasks.lib.operations import WHOLE_FILE, with_arguments
from tasks.lib.templates import compiled

QUESTION = Path(__file__).with_name("file-state.sh")

Commands = Generator[Any, None, None]


@operation()
def put(
    src: str | StringIO,
    dest: str,
    mode: str,
    user: str = "root",
    group: str = "root",
    accept: Sequence[str] = (),
) -> Commands:
    """
    Give the host a file of this machine, or a text, as a whole.

    + src: the file, or its text
    + dest: its path on the host
    + mode: its permissions
    + user: its owner
    + group: its group
    + accept: a command that gets the path of the new content beside the file; the file stays as it
      is if the command fails
    """
    yield from _put(src, dest, mode, user, group, accept)


@operation()
def template(
    src: str,
    dest: str,
    mode: str,
    user: str = "root",
    group: str = "root",
    accept: Sequence[str] = (),
    **values: Any,
) -> Commands:
    """
    Give the host the text of a template as a whole file.

    + src: the template
    + dest, mode, user, group, accept: like those of `put`
    + values: the variables of the template
    """
    text = compiled(ROOT / src).render(values)
    yield from _put(StringIO(text), dest, mode, user, group, accept)


def _put(
    src: str | StringIO, dest: str, mode: str, user: str, group: str, accept: Sequence[str]
) -> Commands:
    content = src.getvalue().encode() if isinstance(src, StringIO) else (ROOT / src).read_bytes()
    # The type and the mode as the kernel has them: https://man7.org/linux/man-pages/man7/inode.7.html
    wanted = [
        f"{stat.S_IFREG | int(mode, 8):x} {user} {group}",
        f"{hashlib.sha256(content).hexdigest()}  -",
    ]
    question = with_arguments(QUESTION, [dest])
    if (host.get_fact(Command, command=question) or "").splitlines() == wanted:
        host.noop(f"{dest} is as it should be")
        return
    # pyinfra's commands, but a new content takes the place of the file in one step.
    access: dict[str, Any] = {"user": user, "group": group, "mode": mode}
    for command in files.put._inner(src=src, dest=dest, **access):
        if isinstance(command, FileUploadCommand):
            yield FileUploadCommand(
                command.src, f"{dest}.new", remote_temp_filename=command.remote_temp_filename
            )
            yield with_arguments(WHOLE_FILE, [dest, f"{user}:{group}", mode, *accept])
            return  # pyinfra would now change owner and mode of the file in its place
        yield command
