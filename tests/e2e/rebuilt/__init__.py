"""A host deployed by the code before its rebuilding becomes one of this code under a running task."""

START = "bare"
MINUTES = 9
