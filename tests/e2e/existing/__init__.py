"""A second host runs its tasks in the cluster of the first one."""

START = "deployed"
MINUTES = 9
