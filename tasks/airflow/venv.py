"""Airflow's virtual environments: one for each version and set of requirements."""

from __future__ import annotations

import hashlib
from io import StringIO

from pyinfra import host
from pyinfra.api import DeployError, deploy
from pyinfra.facts.server import Command

from tasks.host import tools
from tasks.layout import EXTRA_LOCK, REQUIREMENTS, VENV
from tasks.lib import members, whole_file
from tasks.lib.operations import ensure, run_unless
from tasks.settings import HostSettings


@deploy("Airflow")
def install(settings: HostSettings) -> None:
    """The venv with Airflow is complete and compiled; older ones stay beside it."""
    tools.install_uv(settings)
    lock = settings.airflow.lock_path.name
    tools.write_lock("Airflow", lock)
    _write_given_lock(settings)
    given = settings.airflow
    if not settings.members or not given.extra_requirements or given.extra_requirements_lock:
        _install(settings, lock)
        return
    # The first host locks them; later the index may offer others.
    if settings.is_first:
        _install(settings, lock)
    members.copy_from_first(name="Copy the lock of the first host", kind="requirements")
    if not settings.is_first:
        _install(settings, lock)


def _install(settings: HostSettings, lock: str) -> None:
    ensure(
        name="Install Airflow (200 packages, 10 to 60 s)",
        program="venv.sh",
        args=[
            settings.venv,
            settings.python,
            f"{REQUIREMENTS}/{lock}",
            *settings.airflow.extra_requirements,
        ],
        already="this version with these requirements is installed",
    )


def _write_given_lock(settings: HostSettings) -> None:
    given = settings.airflow.extra_requirements_lock
    if given is None:
        return
    if f"# For {settings.venv}" not in given.splitlines():
        raise DeployError(
            "airflow_extra_requirements_lock: it is of other requirements, another Airflow or"
            f" another Python: leave it out, deploy, and take {EXTRA_LOCK} of the host"
        )
    # The packages are installed once, so another lock would be false.
    complete = f"{settings.venv}/.complete"
    sums = f"sha256sum {complete} {EXTRA_LOCK} 2>/dev/null || true"
    lines = (host.get_fact(Command, command=sums) or "").splitlines()
    found = {path: checksum for checksum, path in map(str.split, lines)}
    if complete in found and found.get(EXTRA_LOCK) != hashlib.sha256(given.encode()).hexdigest():
        raise DeployError(
            "airflow_extra_requirements_lock: this host has the same requirements already, perhaps"
            " in other versions: leave the lock out. To give several hosts the same versions,"
            " change airflow_extra_requirements, deploy one, and take its lock to the others"
        )
    whole_file.put(
        name="Write the lock of additional requirements",
        src=StringIO(given),
        dest=EXTRA_LOCK,
        mode="644",
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
