"""Task logs on the host, in a volume claim and in S3."""

START = "deployed"
MINUTES = 6
