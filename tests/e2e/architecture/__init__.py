"""The worker image's Debian and Python packages for arm64 run, in an emulator."""

START = "bare"
MINUTES = 5
