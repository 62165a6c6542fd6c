"""Fixtures of several hosts, which have one address for people."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from tests.e2e.several import airflow, database, deployed, git, hosts, s3, settings
from tests.sandbox.machine import Machine

__all__ = ["airflow", "database", "deployed", "git", "hosts", "s3", "settings"]


@pytest.fixture(scope="module")
def shared(hosts: tuple[Machine, Machine]) -> Machine:
    """The first host, reached by an address that no machine has: theirs count from below."""
    return replace(hosts[0], address=str(ip_address(hosts[0].address) + 128))


@pytest.fixture(scope="module")
def own_settings(shared: Machine) -> dict[str, Any]:
    """One address for people."""
    return {"web_virtual_address": shared.address}
