"""A user of the host without rights: what it may not stop, take or read."""

from __future__ import annotations

import pytest

from tasks.layout import COMMAND_LOCK, DEPLOY_LOCK
from tests.e2e.conftest import Shell


@pytest.mark.parametrize("lock", [DEPLOY_LOCK, COMMAND_LOCK])
def test_nobody_can_hold_a_lock(lock: str, shell: Shell) -> None:
    shell(f"test -e {lock}")
    said = shell(f"runuser -u nobody -- flock --nonblock {lock} true 2>&1 && echo held || true")
    assert "Permission denied" in said
