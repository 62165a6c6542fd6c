"""The example inventories, as stories deploy them: a wrong example fails a story."""

from __future__ import annotations

import runpy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.layout import ROOT
from tasks.lib import members

FOLDER = ROOT / "inventories/examples"
REACHED = ("ssh_user", "_sudo")  # the inventory of the sandbox says how to reach its machines


def example(
    name: str,
    names: Mapping[str, str] | None = None,
    *,
    home: Path | None = None,
    files: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The settings of an example's only host, or of the first of several that are one Airflow.

    Names and addresses in its texts are replaced by those of the sandbox: each must be there. The
    example finds the variables of `environ`, and the home of the person who deploys with `files`,
    by their names there.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        there = home or Path(folder)
        for path, text in (files or {}).items():
            (there / path).write_text(text)
        patch.setenv("HOME", str(there))
        for variable, value in (environ or {}).items():
            patch.setenv(variable, value)
        groups = runpy.run_path(str(FOLDER / f"{name}.py"))
    settings = dict((groups.get(members.GROUP) or groups["hosts"])[0][1])
    for key in REACHED:
        del settings[key]
    for old, new in (names or {}).items():
        replaced = _replaced(settings, old, new)
        assert replaced != settings, f"{name}.py does not have {old}"
        settings = replaced
    return settings


def _replaced(value: Any, old: str, new: str) -> Any:
    """The value with another text in all its texts."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: _replaced(each, old, new) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, old, new) for each in value]
    return value
