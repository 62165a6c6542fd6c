"""The web page and the Execution API over TLS, and what each refuses."""

START = "deployed"
MINUTES = 3
