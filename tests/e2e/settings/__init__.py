"""A changed setting restarts only the services that read it; metrics and alerts are true."""

START = "deployed"
MINUTES = 10
