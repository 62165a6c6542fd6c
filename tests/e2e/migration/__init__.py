"""An Airflow 2 that people made by hand moves in, with its users, connections and history."""

START = "deployed"
MINUTES = 7
RELEASES = ("bookworm",)  # Airflow 2 does not know the Python of Debian 13
