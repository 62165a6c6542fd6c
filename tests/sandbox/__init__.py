"""Throwaway Debian machines with SSH for the tests, and the files that they cannot download."""
