"""Of two hosts a part or the whole dies: no task is lost, and the page moves."""

START = "bare"
MINUTES = 30
