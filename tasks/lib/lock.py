"""One deploy at a time: a lock on the host, held for as long as the run is connected to it.

It is root's, as the deploy is: whoever may read a file may lock it.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyinfra.api import StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.context import ctx_host
from pyinfra.facts.server import Command

from tasks.layout import DEPLOY_LOCK

QUESTION = Path(__file__).parent / "lock.sh"
WAIT = 3  # seconds, for the lock of a run that just ended


def script(owner: str, file: str = DEPLOY_LOCK) -> str:
    """Shell commands that take the lock, and keep it until nobody reads their output."""
    return f"""
mkdir -m 700 -p {os.path.dirname(file)}
exec 9>>{file}
flock -w {WAIT} 9 || exit 0
echo {shlex.quote(owner)} >{file}
while echo; do sleep 0.5; done 2>/dev/null"""


def asking(owner: str, file: str = DEPLOY_LOCK) -> str:
    """Shell text with a function `other_holder`, which prints another run's name in the lock.

    It gives this owner a while to get the lock.
    """
    variables = {"lock_file": file, "lock_owner": owner, "lock_tries": str(10 * WAIT + 5)}
    given = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    return given + QUESTION.read_text()


def other_holder(owner: str, file: str = DEPLOY_LOCK) -> str:
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
    host = ctx_host.get()
    arguments: Any = pop_global_arguments(host.state, host, {})[0]
    as_root = {key: arguments[key] for key in CONNECTOR_ARGUMENT_KEYS}
    if as_root["_sudo"]:
        host.get_fact(Command, command="true")  # asks for sudo's password, if there is one, once
    threading.Thread(
        target=host.run_shell_command, args=(command,), kwargs=as_root, daemon=True
    ).start()
    return owner
