"""Two hosts' secrets are replaced while tasks run."""

START = "bare"
MINUTES = 30
