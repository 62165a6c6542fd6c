"""Killed, stopped and edited parts come back by themselves or with the next deploy."""

START = "deployed"
MINUTES = 12
