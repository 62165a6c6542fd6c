"""One deploy at a time: a lock on the host, held for as long as the run is connected to it."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import threading
from datetime import UTC, datetime

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

FILE = "/run/lock/airflow-deploy"
WAIT = 3  # seconds, for the lock of a run that just ended


def taking(file: str = FILE) -> str:
    """Shell commands that take the lock as descriptor 9, or fail; whoever comes first makes it."""
    return f"[ -e {file} ] || (umask 0; : > {file}); exec 9< {file}\nflock -w {WAIT} 9"


def script(owner: str, file: str = FILE) -> str:
    """Shell commands that take the lock, and keep it until nobody reads what they print."""
    return f"""
{taking(file)} || exit 0
# Without creating it, which Linux forbids in this folder where the file is another user's.
echo {shlex.quote(owner)} | dd of={file} conv=nocreat status=none
while echo; do sleep 0.5; done 2>/dev/null"""


def other_holder(owner: str, file: str = FILE) -> str:
    """Shell commands that print who holds the lock, unless this owner has it within a while."""
    holder = f"$(cat {file} 2>/dev/null)"
    return (
        f'for try in $(seq {10 * WAIT + 5}); do test "{holder}" != {shlex.quote(owner)} || exit 0;'
        f' sleep 0.1; done; echo "{holder}"'
    )


def refusal(holder: str) -> str:
    """What is said to the one who does not get it."""
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
    # Not as root: whoever logs in may take it.
    threading.Thread(target=ctx_host.get().run_shell_command, args=(command,), daemon=True).start()
    return owner
