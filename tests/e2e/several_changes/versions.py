"""The two releases of Airflow, of one schema, between which the hosts go."""

OLD, NEW = "3.3.1", "3.3.2"
