"""Two hosts are one Airflow, with a third for its database; what dies costs no task."""

START = "deployed"
MINUTES = 45
