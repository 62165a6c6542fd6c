"""Airflow's keys, and the password of the web page's first user.

Each has a file of its own, so that each unit is given only those that it needs.
"""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.layout import ROTATE
from tasks.lib import members
from tasks.lib.operations import ensure
from tasks.settings import HostSettings


@deploy("Airflow")
def create(settings: HostSettings) -> None:
    """Each secret has its file; existing files stay. A lost secret that data needs is an error.

    Of several hosts the first one makes them, and the others have the same.
    """
    if settings.is_first:
        ensure(
            name="Create the secrets that are missing",
            program="secrets.sh",
            already="all secrets were made before",
        )
    if settings.members:
        # If a host also had the files of that change, the next one would take their old secret for
        # the new one, and until then its api-server would accept a secret that was replaced. The
        # others would get those of the first host.
        members.unless_others(
            name="End a change of secrets that has ended on the other hosts",
            question=f"! {ROTATE} check end all",
            test=f"{ROTATE} check end switched",
            commands=[f"{ROTATE} apply end switched"],
            already="there is none, one is under way, or this is not the first host",
        )
        members.copy_from_first(name="Copy the secrets of the first host", kind="secrets")
        members.unless_first(
            name="Forget a change of secrets that ended while this host was away",
            question=f"! {ROTATE} check end all",
            test=f"{ROTATE} check end all",
            commands=[f"{ROTATE} apply end all"],
            already="it has none, one is under way, or this is the first host",
        )
