"""DAGs as people write them: plugins, operators, sensors, assets, mails, forced ends."""

START = "deployed"
MINUTES = 17
