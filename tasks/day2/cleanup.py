"""Old accounts, images, virtual environments and programs go, once the new ones are in use."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.airflow import venv
from tasks.cluster import access
from tasks.layout import LIB, OLD_PROGRAMS, STATE
from tasks.lib.operations import run_unless
from tasks.settings import HostSettings
from tasks.worker import image


def run(settings: HostSettings) -> None:
    """The host and the cluster keep only as many old things as the settings say."""
    if settings.is_first:
        access.retire(settings)
    image.prune(settings)
    venv.prune(settings)
    _remove_left_of_restores()
    _remove_old_programs()


@deploy("Clean-up")
def _remove_left_of_restores() -> None:
    """The folders of killed restores, which hold secrets, are gone. No restore can run now, since
    it takes the deploy's lock."""
    run_unless(
        name="Remove the folders of killed restores",
        test=f"! ls -d {STATE}/restore.*",
        commands=[f"rm -rf {STATE}/restore.*"],
        already="there is nothing",
    )


@deploy("Clean-up")
def _remove_old_programs() -> None:
    """No program of an earlier version is left. Until now units of that version may have run it."""
    run_unless(
        name="Remove the programs of an earlier version",
        test=f"! ls {LIB} | grep -qxE '{'|'.join(OLD_PROGRAMS)}'",
        commands=[f"cd {LIB} && rm -f {' '.join(OLD_PROGRAMS)}"],
        already="there is none",
    )
