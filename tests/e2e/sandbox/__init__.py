"""The sandbox: what `up` prints is true, and `down` leaves nothing of it."""

START = "bare"
MINUTES = 4
