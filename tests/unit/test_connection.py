"""The connection to a host."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from pyinfra.context import ctx_host

from tasks import connection


def hasten(connector: object) -> None:
    """For a host with this connector."""
    with ctx_host.use(SimpleNamespace(connector=connector)):
        connection.hasten()


def test_packets_are_not_held_back() -> None:
    with socket.socket() as sock:
        transport = SimpleNamespace(sock=sock)
        hasten(SimpleNamespace(client=SimpleNamespace(get_transport=lambda: transport)))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize(
    "connector",
    [
        SimpleNamespace(),  # this machine itself
        SimpleNamespace(client=None),
        # Through a program, as ProxyCommand has it.
        SimpleNamespace(
            client=SimpleNamespace(get_transport=lambda: SimpleNamespace(sock=object()))
        ),
    ],
)
def test_other_connections_stay_as_they_are(connector: object) -> None:
    hasten(connector)
