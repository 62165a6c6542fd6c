"""A damaged download stops the deploy before it is used."""

START = "deployed"
MINUTES = 3
