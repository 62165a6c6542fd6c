"""The worker image is built, pushed to a registry, replaced under running tasks, pruned."""

START = "deployed"
MINUTES = 7
