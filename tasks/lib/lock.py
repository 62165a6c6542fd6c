"""One deploy at a time: a lock on the host, held for as long as the run is connected to it."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

FILE = "/run/lock/airflow-deploy"
QUESTION = Path(__file__).parent / "lock.sh"
WAIT = 3  # seconds, for the lock of a run that just ended


def taking(file: str = FILE) -> str:
    """Shell commands that take the lock as descriptor 9, or fail; the first run creates it."""
    return f"[ -e {file} ] || (umask 0; : > {file}); exec 9< {file}\nflock -w {WAIT} 9"


def script(owner: str, file: str = FILE) -> str:
    """Shell commands that take the lock, and keep it until nobody reads their output."""
    return f"""
{taking(file)} || exit 0
# Without creating it, which Linux forbids in this folder where the file is another user's.
echo {shlex.quote(owner)} | dd of={file} conv=nocreat status=none
while echo; do sleep 0.5; done 2>/dev/null"""


def asking(owner: str, file: str = FILE) -> str:
    """Shell text with a function `other_holder`, which prints another run's name in the lock.

    It gives this owner a while to get the lock.
    """
    variables = {"lock_file": file, "lock_owner": owner, "lock_tries": str(10 * WAIT + 5)}
    given = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    return given + QUESTION.read_text()


def other_holder(owner: str, file: str = FILE) -> str:
    """Shell commands that print the other run that holds the lock, nothing if this owner does."""
    return f"{asking(owner, file)}\nother_holder"


def refusal(holder: str) -> str:
    """The message to the run that does not get the lock."""
    return (
        f"another deploy of this host runs, by {holder}: wait for its end; one that was killed"
        " lets go within seconds"
    )


def take() -> str:
    """Begin to take this host's lock; returns this run's name for it, for `other_holder`.

    It is free again when this process ends, however it does.
    """
    now = datetime.now(UTC)
    owner = (
        f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()}), {now:%H:%M:%S} UTC"
    )
    command = StringCommand(f"sh -c {shlex.quote(script(owner))}")
    # Not as root: every user who logs in may take it.
    threading.Thread(target=ctx_host.get().run_shell_command, args=(command,), daemon=True).start()
    return owner
