"""The web page and the Execution API over TLS, and the requests that each refuses."""

START = "deployed"
MINUTES = 5
