"""Git repositories with DAGs: the deploy's part before and after Airflow reads them."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.layout import CONTROL_USER, DAGS_USER
from tasks.lib.operations import ensure
from tasks.settings import HostSettings
from tasks.settings.types import digest


def connections(settings: HostSettings) -> list[str]:
    """Ids of the connections with which Airflow reads repositories."""
    found = {bundle.connection for bundle in settings.dags.git_bundles.values()}
    return sorted(name for name in found if name)


@deploy("Git")
def prepare(settings: HostSettings) -> None:
    """The dag-processor will start with these repositories and connections."""
    if settings.dags.git_bundles:
        ensure(
            name="Delete clones that Airflow could not use",
            program="git-clones.py",
            args=[DAGS_USER, *([CONTROL_USER] if settings.airflow.tasks_on_host else [])],
            already="all are of the addresses that the settings name, and have the branches",
        )
    if names := connections(settings):
        ensure(
            name="Record the connections of the git repositories",
            program="git-connections.sh",
            args=names,
            already="the dag-processor will start with them",
        )


@deploy("Git")
def verify(settings: HostSettings, bundles: str) -> None:
    """Airflow may read each repository of its bundles, and has the branch and the folder."""
    if settings.dags.git_bundles:
        ensure(
            name="Ask the git repositories for their DAGs",
            program="git-asked.sh",
            args=[digest(bundles)],
            already="they answered with these settings",
        )
