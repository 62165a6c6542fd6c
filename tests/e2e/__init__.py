"""The deploy for real, on the machine that AIRFLOW_SANDBOX names; the files run in order."""
