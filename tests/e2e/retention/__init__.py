"""Old runs, logs and backups go, and nothing younger; times that were missed are made up for."""

START = "deployed"
MINUTES = 2
