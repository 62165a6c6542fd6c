"""Hosts as people have them: others' things are left alone, and odd surroundings do not matter."""

START = "bare"
MINUTES = 19
ORDER = ("test_refused", "test_deployed", "test_only_by_proxy")
