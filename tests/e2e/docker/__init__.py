"""minikube's node is a container in docker, beside those of other people."""

START = "bare"
MINUTES = 18
