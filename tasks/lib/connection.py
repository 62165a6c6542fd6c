"""The connection to a host."""

from __future__ import annotations

import socket
from typing import Any

from pyinfra.context import ctx_host


def disable_nagle() -> None:
    """Send what belongs to a command at once, where the connection is SSH over TCP.

    Otherwise each of a run's 150 commands waits 40 ms: TCP holds a small packet back until the
    other side has confirmed the one before (Nagle's algorithm), and the other side delays just that
    (RFC 896, RFC 1122 4.2.3.2).
    """
    client: Any = getattr(ctx_host.get().connector, "client", None)
    transport = client.get_transport() if client else None
    if transport and isinstance(transport.sock, socket.socket):  # and no proxy's pipe
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
