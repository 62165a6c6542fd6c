"""Airflow's database is a PostgreSQL on another machine, with a standby, reached over TLS."""

START = "bare"
MINUTES = 13
