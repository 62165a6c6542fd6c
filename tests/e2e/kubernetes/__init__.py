"""Kubernetes is upgraded under a running task; a killed upgrade heals."""

START = "bare"
MINUTES = 8
