"""Fixtures of several hosts."""

from __future__ import annotations

from tests.e2e.several import airflow, database, deployed, git, hosts, own_settings, s3, settings

__all__ = ["airflow", "database", "deployed", "git", "hosts", "own_settings", "s3", "settings"]
