"""A bare host becomes a working Airflow, is used, changed, rebooted and emptied again."""

START = "bare"
MINUTES = 14
ORDER = ("test_bad_input", "test_deploy", "test_dags", "test_more_settings", "test_day_two")
