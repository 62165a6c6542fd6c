"""The connection to a host."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from paramiko import SSHException
from pyinfra.api import DeployError, QuoteString, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.context import ctx_host
from pyinfra.facts.server import Command

from tasks.lib import terminal

# The user who logs in, whatever the inventory says.
AS_LOGIN: dict[str, Any] = {"_sudo": False, "_doas": False, "_dzdo": False, "_su_user": None}


def arguments(host: Host) -> dict[str, Any]:
    """How the inventory wants commands on a host to run, as its connector takes it."""
    given: Any = pop_global_arguments(host.state, host, {})[0]
    return {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if key in given}


def disable_nagle() -> None:
    """Send all packets of a command at once, if the connection is SSH over TCP.

    Otherwise each command of a run waits 40 ms: TCP holds a small packet back until the
    other side has confirmed the one before (Nagle's algorithm), and the other side delays just that
    (RFC 896, RFC 1122 4.2.3.2).
    """
    client: Any = getattr(ctx_host.get().connector, "client", None)
    transport = client.get_transport() if client else None
    if transport and isinstance(transport.sock, socket.socket):  # and no proxy's pipe
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def use_private_folder() -> None:
    """Have pyinfra upload files through a folder that only the login itself can enter.

    With sudo, a file arrives as the login's own and is copied from there. pyinfra's default is /tmp
    with names that everybody can compute, where others could read such a file, or be in its way.
    """
    host = ctx_host.get()
    if not getattr(host.connector, "client", None):
        return  # the other connectors choose a random name
    # The login manager makes the first one, and removes it after the session.
    command = 'd=${XDG_RUNTIME_DIR-}; [ -w "$d" ] && echo "$d" || echo "made $(mktemp -d)"'
    answer = host.get_fact(Command, command=command, **AS_LOGIN)
    *more, answer = answer.splitlines() or [""]
    if more:
        raise DeployError(
            f"{host.name}: the shell of the login prints “{terminal.printable(more[0]):.60}” before"
            " each command's output, and uploads would fail: put `[ -t 1 ] || return` at the top of"
            " its ~/.bashrc. Nothing was changed"
        )
    host.data._temp_dir = answer.removeprefix("made ")
    if answer.startswith("made "):
        _remove_at_end(host.connector, host.data._temp_dir)
    _try_uploads(host)


def _try_uploads(host: Host) -> None:
    """Open the way of all uploads. Otherwise the first one would end the run in its midst."""
    connector: Any = host.connector
    try:
        connector.get_file_transfer_connection()
    except (ConnectError, SSHException) as error:
        raise DeployError(
            f"{host.name}: its SSH server takes no files ({error.__cause__ or error}): write"
            " `Subsystem sftp internal-sftp` into its /etc/ssh/sshd_config and run `systemctl"
            ' reload ssh`, or give the host the inventory data "ssh_file_transfer_protocol": "scp".'
            " Nothing was changed"
        ) from error


def _remove_at_end(connector: Any, folder: str) -> None:
    """Remove a folder of the login before the connection is closed."""
    close = connector.disconnect

    def disconnect() -> None:
        with contextlib.suppress(OSError, EOFError, SSHException):  # the connection may be lost
            connector.run_shell_command(StringCommand("rm", "-rf", QuoteString(folder)))
        close()

    connector.disconnect = disconnect
