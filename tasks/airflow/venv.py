"""Airflow's virtual environments: one for each version and set of requirements."""

from __future__ import annotations

import shlex

from pyinfra.api import deploy

from tasks.host import tools
from tasks.host.tools import UV_ENVIRONMENT
from tasks.layout import (
    REQUIREMENTS,
    UV,
    VENV,
    VENVS,
)
from tasks.lib.operations import settled
from tasks.settings import HostSettings


@deploy("Airflow")
def install(settings: HostSettings) -> None:
    """The venv with Airflow stands, complete and compiled; older ones stand beside it."""
    tools.install_uv()
    tools.write_lock("Airflow", settings.airflow.lock_path.name)
    _install_venv(settings)


def _install_venv(settings: HostSettings) -> None:
    venv, lock = settings.venv, f"{REQUIREMENTS}/{settings.airflow.lock_path.name}"
    pip_install = (
        f"{UV_ENVIRONMENT} {UV}/bin/uv pip install --quiet --python {venv}/bin/python"
        " --only-binary :all: --compile-bytecode"
    )
    extra = " ".join(map(shlex.quote, settings.airflow.extra_requirements))
    settled(
        name="Install Airflow (200 packages, 10 to 60 s)",
        test=f"test -e {venv}/.complete && test {VENV} -ef {venv}",
        commands=[
            f"test -e {venv}/.complete || {{ rm -rf {venv} && {UV_ENVIRONMENT}"
            f" {UV}/bin/uv venv --quiet --python /usr/bin/python{settings.release.python} {venv}"
            f" && {pip_install} --require-hashes -r {lock}"
            # The lock wins over what the extra requirements would like to change.
            + (f" && {pip_install} --constraint {lock} {extra}" if extra else "")
            + f" && rm -f {venv}/.lock && touch {venv}/.complete; }}",
            # Units and pods name the venv itself.
            f"ln -sfn {venv} {VENV}.new && mv -T {VENV}.new {VENV}",
        ],
        because="this version with these requirements is installed",
    )


@deploy("Airflow")
def prune(settings: HostSettings) -> None:
    """No more venvs stand than there are to be: the current one, and the youngest of the others.

    Airflow's services run, so they run with the current one; pods have theirs in their image.
    """
    others = max(settings.retention.worker_images, 2) - 1  # one at least, to go back to
    # What a run that failed left behind counts for nothing.
    complete = f"ls -t {VENVS}/*/.complete | sed 's/[.]complete$//'"
    kept = f"$({complete} | grep -vxF {settings.venv}/ | head -n {others}; echo {settings.venv}/)"
    surplus = f'$(ls -d {VENVS}/*/ | grep -vxF "{kept}")'
    settled(
        name="Remove old venvs",
        test=f'surplus={surplus}; test -z "$surplus"',
        # First what says that it is complete: half a venv must not look like a whole one.
        commands=[f"for venv in {surplus}; do rm -f $venv.complete && rm -rf $venv; done"],
        because="there are no more than are wanted",
    )
