"""An Airflow 2 that people made by hand moves in, with its users, connections and history."""

START = "bare"
MINUTES = 11
RELEASES = ("bookworm",)  # Airflow 2 does not know the Python of Debian 13
