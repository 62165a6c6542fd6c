"""Helpers for tests of several kinds."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Exposure as systemd computes it, times 10: from 0 to 100. Services without a sandbox have 92.
MAX_EXPOSURE = 15
BACKUP_EXPOSURE = 22  # to an existing database


def wait_for(what: Callable[[], T], seconds: float, why: str, every: float = 0.3) -> T:
    """The first true value that `what` returns; fails with `why` if there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := what():
            return result
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {why}")


PORTS = range(12000, 20000)
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
RESERVED: list[socket.socket] = []


def free_port() -> int:
    """A port of this machine at which nothing listens, and that is only the caller's.

    A port that the kernel chooses can become another connection's before a server takes it. So
    this takes one below the kernel's own (ip_local_port_range in ip(7)). Its reservation is an
    abstract socket (unix(7)), which ends with this process.
    """
    assert PORTS.stop <= int(EPHEMERAL.read_text().split()[0])
    for port in PORTS:
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0airflow-test-port-{port}")
            with socket.create_server(("", port)):
                pass
        except OSError:
            reservation.close()
            continue
        RESERVED.append(reservation)
        return port
    raise AssertionError("all ports are taken")
