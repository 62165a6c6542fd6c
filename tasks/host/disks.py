"""The room of the host's file systems, for Prometheus."""

from __future__ import annotations

from tasks.lib.operations import ensure


def watch() -> None:
    """The exporter finds the free space of each file system; a timer keeps it new."""
    ensure(
        name="Record the free space of the file systems",
        program="disks.sh",
        already="it is recorded",
    )
