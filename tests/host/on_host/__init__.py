"""Scripts that support.python() runs on the host; each prints JSON. No secret leaves the host."""
