"""Services and pods hang or are killed: they start again, and no task is lost or runs twice."""

START = "deployed"
MINUTES = 12
