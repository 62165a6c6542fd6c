"""A bare host becomes a working Airflow, is used, changed, rebooted and emptied again."""

START = "bare"
MINUTES = 18
ORDER = ("test_bad_input", "test_deploy", "test_dags")
