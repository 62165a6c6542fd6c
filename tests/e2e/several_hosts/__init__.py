"""Two hosts are one Airflow; a third has its database and its cluster. A death costs no task."""

START = "bare"
MINUTES = 109
