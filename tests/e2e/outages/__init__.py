"""The database, an API or the network is away or slow: no task is lost, none runs twice."""

START = "deployed"
MINUTES = 7
