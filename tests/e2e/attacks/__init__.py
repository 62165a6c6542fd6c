"""The code of DAGs and users of the host gain no right that they were not given."""

START = "deployed"
MINUTES = 10
