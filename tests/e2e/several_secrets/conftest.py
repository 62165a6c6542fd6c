"""Fixtures of several hosts whose tokens end soon."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.several import airflow, database, deployed, git, hosts, s3, settings

__all__ = ["airflow", "database", "deployed", "git", "hosts", "s3", "settings"]


@pytest.fixture(scope="module")
def own_settings() -> dict[str, Any]:
    """Instead of ten minutes, so that a rotation of the jwt-secret does not take as long."""
    return {
        "airflow_config": {
            "execution_api": {"jwt_expiration_time": "45"},
            "scheduler": {"task_queued_timeout": "45"},
        }
    }
