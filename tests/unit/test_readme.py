"""README.md says of the settings what the settings are."""

from __future__ import annotations

import pytest

from tasks.settings import ROOT
from tests.unit import settings_table

HEADING = "## Settings"


@pytest.fixture(scope="module")
def documented() -> list[tuple[str, ...]]:
    """The rows of the table in README.md's section about settings."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert HEADING in lines, f"README.md has no section «{HEADING}»"
    section = lines[lines.index(HEADING) + 1 :]
    end = next((i for i, line in enumerate(section) if line.startswith("## ")), len(section))
    rows = [line for line in section[:end] if line.startswith("| `")]
    return [tuple(cell.strip() for cell in row.strip("| ").split("|")) for row in rows]


@pytest.mark.parametrize(("column", "what"), [(0, "names"), (1, "defaults"), (2, "meanings")])
def test_settings_are_documented_in_order(
    documented: list[tuple[str, ...]], column: int, what: str
) -> None:
    expected = [row[column] for row in settings_table.rows()]
    assert [row[column] for row in documented] == expected, (
        f"the {what} differ: paste what `python -m tests.unit.settings_table` prints"
    )


def test_the_table_has_nothing_that_markdown_takes_for_a_border() -> None:
    assert all("|" not in cell for row in settings_table.rows() for cell in row)
