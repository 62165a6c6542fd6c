"""Debian 12 becomes 13 under Airflow, then PostgreSQL 15 becomes 17, and nothing is lost."""

START = "deployed"
MINUTES = 20
RELEASES = ("bookworm",)
