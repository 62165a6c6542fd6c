"""Pins of the repository: versions, checksums and locks, each with the source of newer ones."""
