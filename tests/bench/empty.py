"""A deploy without an operation: the baseline of a rerun that changes nothing."""
