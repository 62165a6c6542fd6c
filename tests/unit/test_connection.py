"""The connection to a host."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from pyinfra.context import ctx_host

from tasks.lib import connection


def disable_nagle(connector: object) -> None:
    """For a host with this connector."""
    with ctx_host.use(SimpleNamespace(connector=connector)):
        connection.disable_nagle()


def test_packets_are_not_held_back() -> None:
    with socket.socket() as sock:
        transport = SimpleNamespace(sock=sock)
        disable_nagle(SimpleNamespace(client=SimpleNamespace(get_transport=lambda: transport)))
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
    disable_nagle(connector)  # what is not there raises
