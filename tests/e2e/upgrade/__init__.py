"""Airflow is upgraded under a running task, rolled back, backed up and restored."""

START = "bare"
MINUTES = 10
