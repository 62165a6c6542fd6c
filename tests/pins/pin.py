"""The parts that all kinds of pins share: their answers, and the writing of their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Files = dict[str, str]  # texts, by their path in the repository


class NotReached(Exception):
    """A source does not answer; the message names it."""


class Refused(Exception):
    """No program can renew this; the message says why, and what a person can do."""


class Row(NamedTuple):
    """A line of the table: a version here, and the newest one that fits."""

    name: str
    before: str
    after: str
    note: str = ""

    @property
    def is_newer(self) -> bool:
        """Whether the source offers another version."""
        return self.before != self.after


@dataclass(frozen=True)
class Found:
    """The rows of a pin, and a function that makes its new files; it may take long."""

    rows: list[Row]
    files: Callable[[], Files]


class Pin(NamedTuple):
    """A kind of pin: its name for the command line, and what the documentation says of it."""

    name: str
    places: str
    source: str
    look: Callable[[Path], Found]
    only_by_name: bool = False  # its renewal needs a person's work too


def numbers(version: str) -> list[int]:
    """The release numbers of a version, which compare as versions do."""
    found = []
    for part in version.removeprefix("v").split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return found


def newest(*versions: str) -> str:
    """The highest of some versions."""
    return max(versions, key=numbers)


def write(root: Path, files: Files) -> None:
    """Replace files of the repository: all of them, or none if that fails."""
    paths = {root / name: text for name, text in files.items()}
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    drafts = {path: path.with_name(f"{path.name}.new") for path in paths}
    try:
        for path, text in paths.items():
            drafts[path].write_text(text)
            if before[path] is not None:
                shutil.copymode(path, drafts[path])
        for path, draft in drafts.items():
            draft.replace(path)
    except BaseException:
        for path, content in before.items():
            drafts[path].unlink(missing_ok=True)
            if content is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                path.write_bytes(content)
        raise
