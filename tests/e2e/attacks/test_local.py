"""A user of the host without rights: what it may not stop, take or read."""

from __future__ import annotations

import pytest

from tasks.layout import COMMAND_LOCK, DEPLOY_LOCK
from tests.e2e.conftest import Shell
from tests.e2e.support import SLACK
from tests.support import wait_for


@pytest.mark.parametrize("lock", [DEPLOY_LOCK, COMMAND_LOCK])
def test_nobody_can_hold_a_lock(lock: str, shell: Shell) -> None:
    shell(f"test -e {lock}")
    said = shell(f"runuser -u nobody -- flock --nonblock {lock} true 2>&1 && echo held || true")
    assert "Permission denied" in said


def refusals(shell: Shell) -> list[str]:
    """What nobody is told who would listen where Airflow does."""
    places = "[('127.0.0.1', 78), ('0.0.0.0', 78), ('127.0.0.1', 8080), ('::1', 8080)]"
    program = f"""
import socket
for address, port in {places}:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address, port))
        listener.listen()
        print("listens")
    except OSError as error:
        print(error.strerror)
"""
    said = shell(f"runuser -u nobody -- python3 - <<'END'{program}END")
    return said.splitlines()


def test_nobody_can_pass_for_airflow(shell: Shell) -> None:
    """Neither while Airflow runs, nor while it is stopped."""
    closed = ["Permission denied"] * 2 + ["Address already in use"] * 2
    assert refusals(shell) == closed
    shell("systemctl stop airflow.target")
    try:
        assert refusals(shell) == closed
    finally:
        shell("systemctl start airflow.target")
    for page in ("http://127.0.0.1:8080", "http://[::1]:8080"):
        status = f"curl -s -o /dev/null -w '%{{http_code}}' {page}/api/v2/version || true"
        wait_for(lambda ask=status: shell(ask) == "200", 60 + SLACK, f"{page} answers")
