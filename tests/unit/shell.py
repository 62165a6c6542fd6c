"""Whether texts are good shell, asked in one process for many of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

# Ends with 0 in any case, and prints the faults.
READ_EACH = 'cd "$1"; for file in *; do said=$(sh -n "$file" 2>&1) || echo "$said" "$file"; done'


def unreadable(texts: Iterable[str]) -> list[str]:
    """Those that are no shell, each with the message of sh."""
    numbered = {str(number): text for number, text in enumerate(sorted(set(texts)))}
    assert numbered
    with TemporaryDirectory() as folder:
        for name, text in numbered.items():
            Path(folder, name).write_text(text)
        done = subprocess.run(
            ["sh", "-c", READ_EACH, "sh", folder], text=True, capture_output=True, check=True
        )
    return [f"{line}\n{numbered[line.split()[-1]]}" for line in done.stdout.splitlines()]


def remarks(texts: Iterable[str]) -> list[str]:
    """The remarks of shellcheck about them, without those about style."""
    program = which("shellcheck")
    assert program, "run the tests with uv run, which brings shellcheck"
    numbered = {str(number): text for number, text in enumerate(sorted(set(texts)))}
    with TemporaryDirectory() as folder:
        for name, text in numbered.items():
            Path(folder, name).write_text(text)
        done = subprocess.run(
            [program, "--shell=sh", "--severity=warning", "--format=gcc", *numbered],
            cwd=folder,
            text=True,
            capture_output=True,
        )
    assert done.returncode in (0, 1), done.stderr
    return [f"{line}\n{numbered[line.partition(':')[0]]}" for line in done.stdout.splitlines()]
