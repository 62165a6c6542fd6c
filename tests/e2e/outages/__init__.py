"""The database, an API or the network is away or slow: no task is lost, none runs twice."""

START = "deployed"
MINUTES = 13
# After an outage of its API the cluster's controllers may need long to see changes again.
ORDER = ("test_token", "test_outages")
