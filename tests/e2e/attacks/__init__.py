"""The code of DAGs gains no right that it was not given, and goes on working."""

START = "deployed"
MINUTES = 6
