"""Forged tokens, path tricks, planted links and junk requests are refused."""

START = "deployed"
MINUTES = 1
