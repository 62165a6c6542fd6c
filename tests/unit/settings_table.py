"""The tables of settings in inventories/README.md, made from the sections of Settings.

python -m tests.unit.settings_table prints them.
"""

from __future__ import annotations

import json
import typing
from typing import Any

from pydantic import BaseModel

from tasks.settings import SECTIONS, SETTINGS

HEAD = ["| Setting | Default | Meaning |", "|---|---|---|"]

# The name of each section, by its heading.
HEADINGS = {model.heading: name for name, model in SECTIONS.items()}


def keys(heading: str) -> list[str]:
    """The keys of a section's settings."""
    return [key for key, setting in SETTINGS.items() if setting.section == HEADINGS[heading]]


def rows(heading: str) -> list[tuple[str, str, str]]:
    """Key, default and meaning of each setting of a section, as its table shows them."""
    fields = {key: SETTINGS[key].field for key in keys(heading)}
    return [
        (f"`{key}`", default(field.default), str(field.description))
        for key, field in fields.items()
    ]


def default(value: Any) -> str:
    """A default as an inventory contains it; a checksum is shortened."""
    if value is None:
        return "none"
    if isinstance(value, str) and len(value) == 64:
        value = f"{value[:12]}…"
    # The JSON of everything but a boolean is Python too.
    text = repr(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def inner_keys(key: str) -> list[str]:
    """The keys within a setting or its entries; none if it has none."""
    model = _model(SETTINGS[key].field.annotation)
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _model(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for part in typing.get_args(kind) if (found := _model(part))), None)


def table(heading: str) -> str:
    """A section's table as Markdown, and the keys within its settings."""
    lines = [*HEAD, *(f"| {' | '.join(row)} |" for row in rows(heading))]
    listed = [
        f"- Keys of `{key}`: {', '.join(f'`{inner}`' for inner in found)}."
        for key in keys(heading)
        if (found := inner_keys(key))
    ]
    return "\n".join([*lines, *([""] if listed else []), *listed])


if __name__ == "__main__":
    for heading in HEADINGS:
        print(f"## {heading}\n\n{table(heading)}\n")
