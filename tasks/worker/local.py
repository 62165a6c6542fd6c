"""Folders of this machine whose files the deploy copies to the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyinfra.api import DeployError

from tasks.layout import ROOT
from tasks.lib import progress

# The ending of a file that is being copied.
TEMPORARY = ".airflow-deploy-new"
# Files and folders in which programs keep passwords and keys. Every user of the host can read
# copied files, or everybody who may pull the image.
LOGINS = {
    *(".env", ".envrc", ".netrc", ".pgpass", ".my.cnf", ".git-credentials", ".npmrc", ".pypirc"),
    *(".aws", ".azure", ".boto", ".config", ".docker", ".gnupg", ".kube", ".oci", ".ssh"),
    *(".htpasswd", ".s3cfg", ".vault-token", ".databrickscfg", ".snowsql", ".terraform.d"),
}


def files(setting: str, folder: str | None) -> dict[str, Path]:
    """The files of the folder that a setting names, by their path in there; none without one.

    Files that may hold a login are not among them.
    """
    found = {
        name: path for name, path in _all(setting, folder).items() if not _may_hold_login(name)
    }
    for name in found:
        if name.endswith(TEMPORARY) or "\\" in name or not name.isprintable():
            raise DeployError(f"{setting}: rename {name!a}, which some tool can't list or write")
    return found


def say_left_out(setting: str, folder: str | None) -> None:
    """At its end, the run names the files that it did not copy because they may hold a login."""
    if left_out := sorted(filter(_may_hold_login, _all(setting, folder))):
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        progress.print_at_end(
            f"{left_out[0]!a}{more} of {setting} was not copied, since every user of the"
            " host could read it: give logins and keys as airflow_connections."
        )


def _all(setting: str, folder: str | None) -> dict[str, Path]:
    if not folder:
        return {}
    top = Path(ROOT, folder)
    return {str(path.relative_to(top)): path for path in sorted(_below(setting, top))}


def _below(setting: str, folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    # Airflow follows links to folders, so this does too.
    real = folder.resolve()
    if real in above:  # a link that leads to a folder that it is in
        return
    for path in folder.iterdir():
        if path.name in ("__pycache__", ".git"):
            continue
        if path.is_dir():
            yield from _below(setting, path, (*above, real))
        elif path.is_file():
            yield path
        elif path.is_symlink():
            raise DeployError(f"{setting}: the link {str(path)!a} leads nowhere: remove it")


def _may_hold_login(name: str) -> bool:
    return any(part in LOGINS or part.startswith(".env.") for part in Path(name).parts)
