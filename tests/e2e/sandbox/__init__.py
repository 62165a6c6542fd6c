"""The sandbox: `up` prints the truth, and `down` leaves nothing of it."""

START = "bare"
MINUTES = 9
