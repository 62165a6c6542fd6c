"""A host deployed by the code before its rebuilding is taken over, under a running task."""

START = "bare"
MINUTES = 8
