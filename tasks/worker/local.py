"""Folders of this machine whose files the deploy copies to the host."""

from __future__ import annotations

from pathlib import Path

from pyinfra.api import DeployError

from tasks.layout import ROOT


def files(setting: str, folder: str | None) -> dict[str, Path]:
    """The files of the folder that a setting names, by their path in there; none without one."""
    if not folder:
        return {}
    top = Path(ROOT, folder)
    found = {
        str(path.relative_to(top)): path
        for path in sorted(top.rglob("*"))
        if path.is_file() and not {"__pycache__", ".git"} & set(path.parts)
    }
    if strange := [name for name in found if "\n" in name or "\\" in name]:
        raise DeployError(f"{setting}: rename {strange[0]!r}, which no tool can list")
    return found
