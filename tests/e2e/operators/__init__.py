"""DAGs as people write them: plugins, operators, sensors, assets, mails, users, forced ends."""

START = "deployed"
MINUTES = 14
