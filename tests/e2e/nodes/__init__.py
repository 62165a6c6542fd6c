"""Tasks run on two nodes that are not the host, also while one is drained or dies."""

START = "deployed"
MINUTES = 15
