"""The Markdown files of the repository, and their parts."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

from tasks.layout import ROOT


@functools.cache
def tracked() -> list[Path]:
    """All files of the repository, those that are not committed yet among them."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    return sorted(path for name in {*listed.split("\0")} - {""} if (path := ROOT / name).is_file())


def documents() -> list[Path]:
    """The Markdown files."""
    return [path for path in tracked() if path.suffix == ".md"]


def prose(path: Path) -> str:
    """A Markdown file's text without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def section(path: Path, heading: str) -> str:
    """The text between a heading and the next one of its level or a higher one."""
    marks, _, _ = heading.partition(" ")
    text = path.read_text()
    assert f"\n{heading}\n" in text, f"{path.name} has no heading {heading!r}"
    rest = text.partition(f"\n{heading}\n")[2]
    return re.split(rf"^#{{1,{len(marks)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def commands(path: Path, heading: str) -> list[str]:
    """The blocks of shell commands in a section."""
    return re.findall(r"^```sh\n(.*?)^```$", section(path, heading), re.MULTILINE | re.DOTALL)


def table(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    lines = text.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(f"| {first} |")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("| ").split(" | ")])
    return rows


def code(text: str) -> list[str]:
    """The texts that are marked as code."""
    return re.findall(r"`([^`]+)`", text)
