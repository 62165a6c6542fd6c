"""Two hosts are one Airflow; neither a killed service nor a dead machine costs a task."""

START = "deployed"
MINUTES = 40
