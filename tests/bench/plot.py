"""Draw kept figures: `uv run python -m tests.bench.plot FILE.json > FILE.svg`.

Each figure has a scale of its own, which begins at 0: its bar, that of its baseline below, a thin
line from the least value to the most, and a mark at its goal. The drawing has its own background,
dark where the reader's system is dark.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.bench.figures import KINDS, Spread, goal_in_words, in_words, number

WIDTH, MARGIN, BAR_WIDTH = 840, 20, 340
BAR, LINE, GAP = 14, 18, 14  # heights
STYLE = """
  svg { --page: #ffffff; --text: #1f2328; --quiet: #59636e; --bar: #0969da; --base: #afb8c1;
    --goal: #bc4c00; --spread: #1f2328 }
  @media (prefers-color-scheme: dark) {
    svg { --page: #0d1117; --text: #f0f6fc; --quiet: #9198a1; --bar: #4493f8; --base: #59636e;
      --goal: #f0883e; --spread: #f0f6fc }
  }
  text { font: 13px sans-serif; fill: var(--text) }
  .title { font-weight: bold }
  .quiet { fill: var(--quiet) }
  .page { fill: var(--page) }
  .bar { fill: var(--bar) }
  .base { fill: var(--base) }
  .spread { stroke: var(--spread) }
  .goal { stroke: var(--goal); stroke-width: 2 }
  .reached { fill: var(--goal) }
"""


def svg(found: dict[str, Any]) -> str:
    """A drawing of the figures of a file."""
    shapes: list[str] = []
    about, top = found["machine"], MARGIN + LINE
    hardware = (
        f"{about['cores']} cores of {about['processor']}, {about['memory_gib']} GiB,"
        f" Linux {about['kernel']}, Debian {about['debian']}"
    )
    versions = (
        f"Airflow {about['airflow']}, Kubernetes {about['kubernetes']}, commit {about['commit']};"
        " medians, with the least and the most in brackets"
    )
    for text in (hardware, versions):
        shapes.append(label(MARGIN, top, text, "quiet"))
        top += LINE
    # In the order of the table, not in that of measuring.
    for name in KINDS:
        if each := found["figures"].get(name):
            top += GAP
            shapes += row(name, each, top)
            top += row_height(each)
    height = top + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
            f' viewBox="0 0 {WIDTH} {height}" role="img">',
            "<title>Figures of a deployed machine, each with its baseline and its goal</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def row_height(figure: dict[str, Any]) -> int:
    """The height of a figure: its title, its bars and its parts."""
    bars = 2 if "baseline" in figure else 1
    return LINE + bars * (BAR + 4) + (LINE if "parts" in figure else 0)


def goal_of(figure: dict[str, Any]) -> float | None:
    """Where the goal is on the figure's own scale."""
    goal = figure.get("goal")
    if not goal:
        return None
    return float(goal["limit"] * (figure["baseline"]["median"] if goal["of_ratio"] else 1))


def row(name: str, figure: dict[str, Any], top: int) -> Iterator[str]:
    """The shapes of a figure, the first of them at this height."""
    kind, goal = KINDS[name], goal_of(figure)
    yield label(MARGIN, top + BAR - 2, figure["title"], "title")
    if kind.goal:
        mark = "reached" if figure["goal"]["reached"] else "not reached"
        text = f"goal: {goal_in_words(kind)}, {mark}"
        yield label(WIDTH - MARGIN, top + BAR - 2, text, "reached", "end")
    bars = [(figure, "bar", "")]
    if "baseline" in figure:
        bars.append((figure["baseline"], "base", f"{figure['baseline']['title']}: "))
    most = max(goal or 0, *(each["high"] for each, _, _ in bars)) or 1
    first = y = top + LINE

    def x(value: float) -> float:
        return round(MARGIN + BAR_WIDTH * value / most, 1)

    for each, style, prefix in bars:
        about = Spread(each["median"], each["low"], each["high"])
        width = round(x(about.median) - MARGIN, 1)
        yield f'<rect class="{style}" x="{MARGIN}" y="{y}" width="{width}" height="{BAR}"/>'
        if about.low < about.high:
            yield line("spread", x(about.low), y + BAR / 2, x(about.high), y + BAR / 2)
        text = prefix + in_words(about, figure["unit"])
        if style == "bar" and "ratio" in figure:
            text += f", {number(figure['ratio']['median'])} times the baseline"
        end = max(x(about.high), x(goal or 0))
        yield label(end + 8, y + BAR - 3, text, "" if style == "bar" else "quiet")
        y += BAR + 4
    if goal is not None:
        yield line("goal", x(goal), first - 2, x(goal), y - 2)
    if "parts" in figure:
        parts = [f"{part} {number(each['median'])}" for part, each in figure["parts"].items()]
        yield label(MARGIN, y + BAR - 2, f"of these: {', '.join(parts)}", "quiet")


def label(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    """A text whose line is at this height."""
    about = f'class="{style}" ' if style else ""
    return f'<text {about}x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A line between two points."""
    return f'<line class="{style}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


if __name__ == "__main__":
    print(svg(json.loads(Path(sys.argv[1]).read_text())), end="")
