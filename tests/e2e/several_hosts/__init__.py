"""Two hosts are one Airflow; a third has its database and its cluster."""

START = "bare"
MINUTES = 30
