"""Kubernetes is upgraded in steps under a running task; a killed upgrade heals."""

START = "bare"
MINUTES = 20
