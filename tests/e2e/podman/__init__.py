"""minikube's node is a container in podman, beside those of other people."""

START = "bare"
MINUTES = 15
