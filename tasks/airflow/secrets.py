"""Airflow's keys, and the password of the web page's first user.

Each has a file of its own, so that each unit is given only those that it needs.
"""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.lib.operations import ensure


@deploy("Airflow")
def create() -> None:
    """Each secret has its file; one that is there stays. A lost one that data needs is an error."""
    ensure(
        name="Make the secrets that are missing",
        program="secrets.sh",
        already="all secrets were made before",
    )
