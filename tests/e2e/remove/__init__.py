"""Airflow is removed, with its data and without; a backup comes back on the empty host."""

START = "deployed"
MINUTES = 20
