"""Airflow's virtual environments: one for each version and set of requirements."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.host import tools
from tasks.layout import REQUIREMENTS, VENV
from tasks.lib.operations import ensure, run_unless
from tasks.settings import HostSettings


@deploy("Airflow")
def install(settings: HostSettings) -> None:
    """The venv with Airflow is complete and compiled; older ones stay beside it."""
    tools.install_uv(settings)
    lock = settings.airflow.lock_path.name
    tools.write_lock("Airflow", lock)
    ensure(
        name="Install Airflow (200 packages, 10 to 60 s)",
        program="venv.sh",
        args=[
            settings.venv,
            f"/usr/bin/python{settings.release.python}",
            f"{REQUIREMENTS}/{lock}",
            *settings.airflow.extra_requirements,
        ],
        already="this version with these requirements is installed",
    )


def switch(settings: HostSettings) -> None:
    """The command line uses this venv. Units and pods name it themselves."""
    run_unless(
        name="Switch the command line to this version",
        test=f"test {VENV} -ef {settings.venv}",
        commands=[f"ln -sfn {settings.venv} {VENV}.new && mv -T {VENV}.new {VENV}"],
        already="it uses this version",
    )


@deploy("Airflow")
def prune(settings: HostSettings) -> None:
    """Only the current venv and the youngest of the others are left."""
    ensure(
        name="Remove old venvs",
        program="prune-venvs.sh",
        # At least one, to roll back to.
        args=[settings.venv, str(max(settings.retention.worker_images, 2) - 1)],
        already="there are no more than are wanted",
    )
