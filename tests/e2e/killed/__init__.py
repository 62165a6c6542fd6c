"""A deploy that is killed in any of its modules heals with the next one."""

START = "deployed"
MINUTES = 11
