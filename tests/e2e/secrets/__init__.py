"""Secrets leak nowhere, and each can be replaced while tasks run."""

START = "deployed"
MINUTES = 8
# The rotation expects that a deploy without settings has nothing to do.
ORDER = ("test_rotation", "test_leaks")
