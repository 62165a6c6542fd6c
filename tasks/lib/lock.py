"""One deploy at a time: a lock on the host, held for as long as the run is connected to it.

Over SSH the run gives a sign of life every few seconds. If the host gets none for the time of the
lease, it releases the lock, and the run stops as soon as it learns this.

Only root may read the lock's file: anybody who may read a file may lock it.
"""

from __future__ import annotations

import builtins
import getpass
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
from gevent.select import select
from pyinfra import logger
from pyinfra.api import StringCommand
from pyinfra.context import ctx_host
from pyinfra.facts.server import Command

from tasks.layout import DEPLOY_LOCK
from tasks.lib import connection
from tasks.lib.shell import assignments

ASK = builtins.input
HOLDER = Path(__file__).with_name("lock-hold.sh")
QUESTION = Path(__file__).with_name("lock.sh")
WAIT = 3  # seconds, for the lock of a run that just ended
LEASE = 90  # seconds
BEAT = 10  # seconds
LOST = (
    "This run has lost its lock on the host, so another one may be at work: the connection was away"
    " for too long, or somebody ended the lock's process there. It stops; run it again."
)


def script(owner: str, file: str = DEPLOY_LOCK, lease: int | None = None) -> str:
    """Shell text that takes the lock, and keeps it until nobody reads its output.

    With a lease it keeps it until its input ends, or is silent for so many seconds.
    """
    return _with(
        HOLDER, lock_file=file, lock_owner=owner, lock_wait=str(WAIT), lock_lease=str(lease or "")
    )


def _with(program: Path, **variables: str) -> str:
    return assignments(variables) + program.read_text()


class Beats(list[str]):
    """The input of a holder with a lease: lines without an end, one every few seconds.

    pyinfra writes the lines of a list as it gets them.
    """

    def __iter__(self) -> Iterator[str]:
        """Wait between the lines.

        Raises OSError if this machine slept for so long that the host gave the lock away. Otherwise
        the run would go on until the connection brings that news.
        """
        while True:
            said = time.time()  # other clocks stand still while a laptop is closed
            yield "\n"
            time.sleep(BEAT)
            if time.time() - said >= LEASE:
                raise OSError("this machine has been silent for longer than the lease")


def ask(*prompt: object) -> str:
    """Ask as `input` does, while the beats go on: `input` alone stops all of this process.

    Somebody may read the list of changes for longer than a lease.
    """
    if sys.stdin is not None:
        select([sys.stdin], [], [])
    return ASK(*prompt)


def asking(owner: str, file: str = DEPLOY_LOCK) -> str:
    """Shell text with a function `other_holder`, which prints another run's name in the lock.

    It gives this owner a while to get the lock.
    """
    return _with(QUESTION, lock_file=file, lock_owner=owner, lock_tries=str(10 * WAIT + 5))


def other_holder(owner: str, file: str = DEPLOY_LOCK) -> str:
    """Shell commands that print the other run that holds the lock, nothing if this owner does."""
    return f"{asking(owner, file)}\nother_holder"


def refusal(holder: str) -> str:
    """The message to the run that does not get the lock."""
    return (
        f"another deploy of this host runs, by {holder}: wait for its end, or end it there with"
        " Ctrl+C; a killed one releases the host within seconds, and one whose connection is lost"
        f" within {LEASE} seconds"
    )


def take() -> str:
    """Begin to take this host's lock; returns this run's name for it, for `other_holder`.

    The lock is free again when this process ends, for any reason.
    """
    now = datetime.now(UTC)
    owner = (
        f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()}), since"
        f" {now:%Y-%m-%d %H:%M:%S} UTC"
    )
    host = ctx_host.get()
    client: Any = getattr(host.connector, "client", None)  # of SSH
    lease = LEASE if client else None
    command = StringCommand(f"sh -c {shlex.quote(script(owner, lease=lease))}")
    if client:
        builtins.input = ask  # pyinfra asks later whether to continue
    as_root = connection.arguments(host)
    if as_root["_sudo"]:
        host.get_fact(Command, command="true")  # asks for sudo's password, if there is one, once

    def hold() -> None:
        if not client:
            host.run_shell_command(command, **as_root)
            return
        try:
            host.run_shell_command(command, **{**as_root, "_stdin": Beats("\n")})
        except OSError:  # the holder is gone
            # At the end of a run the connection is gone, too.
            if not (client.get_transport() and client.get_transport().is_active()):
                return
            logger.error(LOST)
            raise SystemExit(1) from None  # of gevent's kind of thread this ends the run

    gevent.spawn(hold)
    return owner
