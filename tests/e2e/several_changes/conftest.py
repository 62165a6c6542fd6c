"""Fixtures of several hosts, which begin with a release that is not the newest."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.several import airflow, database, deployed, git, hosts, s3, settings
from tests.e2e.several_changes.versions import OLD

__all__ = ["airflow", "database", "deployed", "git", "hosts", "s3", "settings"]


@pytest.fixture(scope="module")
def own_settings() -> dict[str, Any]:
    """The older release."""
    return {"airflow_version": OLD}
