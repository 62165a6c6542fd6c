"""Templates that become part of something else; pyinfra's own operation writes the others."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template


@cache
def compiled(path: Path) -> Template:
    """A template, read once."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(path.read_text())
