"""Changes and other packages come to one of two hosts after the other."""

START = "bare"
MINUTES = 40
