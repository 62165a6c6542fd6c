"""After an accident a green deploy survives the next reboot, and nothing is lost."""

START = "deployed"
MINUTES = 16
