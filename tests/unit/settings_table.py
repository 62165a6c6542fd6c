"""The table of settings in README.md, made from Settings: python -m tests.unit.settings_table"""

from __future__ import annotations

import json
from typing import Any

from tasks.settings import Settings

HEAD = ["| Setting | Default | Meaning |", "|---|---|---|"]


def rows() -> list[tuple[str, str, str]]:
    """Name, default and meaning of each setting, as the table shows them."""
    return [
        (f"`{name}`", default(field.default), str(field.description))
        for name, field in Settings.model_fields.items()
    ]


def default(value: Any) -> str:
    """A default as one writes it in an inventory; of a checksum its beginning is enough."""
    if value is None:
        return "none"
    if isinstance(value, str) and len(value) == 64:
        value = f"{value[:12]}…"
    # JSON of texts, lists and dictionaries is Python too; it is so for numbers, not for booleans.
    text = repr(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def table() -> str:
    """The table as Markdown."""
    return "\n".join([*HEAD, *(f"| {' | '.join(row)} |" for row in rows())])


if __name__ == "__main__":
    print(table())
