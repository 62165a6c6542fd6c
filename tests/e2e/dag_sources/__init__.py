"""DAGs come from a folder, git repositories, a volume claim or the image."""

START = "deployed"
MINUTES = 18
