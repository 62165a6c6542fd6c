"""Run a program of files/usr/local as it is, with the values of a folder that stands for a host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from tasks.host import host_values
from tasks.settings import HostSettings
from tests.unit.fake import FILES

BIN, LIB = FILES / "usr/local/bin", FILES / "usr/local/lib/airflow"


def host_env(
    folder: Path, settings: HostSettings, values: Mapping[str, str | Path] | None = None
) -> dict[str, str]:
    """Write the values of a host whose paths are below a folder; returns how programs find them."""
    root = folder / "root"
    found = {
        name: re.sub(r"(?<!\S)/(etc|opt|root|run|var)/", rf"{root}/\1/", value)
        for name, value in host_values.values(settings).items()
    }
    found |= {"ROOT": str(root), **{name: str(value) for name, value in (values or {}).items()}}
    file = folder / "host.env"
    file.write_text("".join(f"{name}={quote(value)}\n" for name, value in found.items()))
    return {"AIRFLOW_HOST_ENV": str(file)}
