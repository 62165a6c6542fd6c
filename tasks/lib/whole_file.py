"""Files that appear whole: pyinfra's `files.put` and `files.template` write in place.

A connection that breaks, or a loss of power, would leave half of a file, which the next boot reads.
Here the new content is uploaded beside the file, may be checked there, and takes its place in one
step. This takes no more round trips than pyinfra's own operations.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from pyinfra.api import FileUploadCommand, operation
from pyinfra.operations import files

from tasks.lib.operations import with_arguments

PROGRAM = Path(__file__).with_name("whole-file.sh")

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
    access: dict[str, Any] = {"user": user, "group": group, "mode": mode}
    commands = files.put._inner(src=src, dest=dest, **access)
    yield from _whole(commands, dest, f"{user}:{group}", mode, accept)


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
    + values: what the template asks for
    """
    access: dict[str, Any] = {"user": user, "group": group, "mode": mode}
    commands = files.template._inner(src=src, dest=dest, **access, **values)
    yield from _whole(commands, dest, f"{user}:{group}", mode, accept)


def _whole(commands: Commands, dest: str, owner: str, mode: str, accept: Sequence[str]) -> Commands:
    """pyinfra's commands; but a new content takes the place of the file in one step."""
    for command in commands:
        if isinstance(command, FileUploadCommand):
            yield FileUploadCommand(
                command.src, f"{dest}.new", remote_temp_filename=command.remote_temp_filename
            )
            yield with_arguments(PROGRAM, [dest, owner, mode, *accept])
            return  # pyinfra would now change owner and mode of the file in its place
        yield command
