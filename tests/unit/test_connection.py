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


class Pipe:
    """Both ends of a program that carries the connection, as ProxyCommand has it."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a pipe has no {name}")


@pytest.mark.parametrize(
    "connector",
    [
        SimpleNamespace(),  # this machine itself
        SimpleNamespace(client=None),
        SimpleNamespace(client=SimpleNamespace(get_transport=lambda: SimpleNamespace(sock=Pipe()))),
    ],
)
def test_where_there_is_no_tcp_nothing_is_asked_of_the_connection(connector: object) -> None:
    hasten(connector)  # what is not there raises
