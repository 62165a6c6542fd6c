"""Secrets leak nowhere, and each can be replaced while tasks run."""

START = "deployed"
MINUTES = 6
ORDER = ("test_leaks", "test_rotation")
