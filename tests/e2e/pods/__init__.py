"""Settings shape task pods, limit them, place them, keep them; tasks on the host."""

START = "deployed"
MINUTES = 4
