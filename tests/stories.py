"""The command `tests/run`: the list of stories, and the command line.

A story is a folder of tests/e2e. Its package's docstring says what it is about, START whether its
machine is "bare" or "deployed", MINUTES how long it usually takes, ORDER in which order its modules
run, if that matters; and RELEASES on which Debian it begins, if not on each.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "e2e"
RELEASES = ("bookworm", "trixie")
# A machine with Airflow and a few task pods.
MACHINE_GIB = 5


@dataclass(frozen=True)
class Story:
    """A folder of end-to-end tests; its package says what it is about and how it starts."""

    name: str
    sentence: str
    minutes: int
    start: str  # on a "bare" machine or on a "deployed" one
    releases: tuple[str, ...] = RELEASES


def stories() -> list[Story]:
    """All stories: the main one, then the longest first, so that two at a time end together."""
    found = []
    for folder in FOLDER.iterdir():
        if any(folder.glob("test_*.py")):
            package = importlib.import_module(f"tests.e2e.{folder.name}")
            sentence = (package.__doc__ or "").strip()
            releases = getattr(package, "RELEASES", RELEASES)
            found.append(Story(folder.name, sentence, package.MINUTES, package.START, releases))
    return sorted(found, key=lambda story: (story.name != "main", -story.minutes, story.name))


def listing() -> str:
    """The stories, a line each."""
    found = stories()
    width = max(len(each.name) for each in found)
    return "\n".join(
        f"{each.name:<{width}} {each.minutes:>3} min  {each.sentence}" for each in found
    )


def machines_at_once() -> int:
    """How many machines this one carries."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(2, int(memory / MACHINE_GIB)))


def arguments() -> argparse.Namespace:
    """The command line; ends the program with the list of stories if it names an unknown one."""
    parser = argparse.ArgumentParser(
        prog="./tests/run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the static checks, the unit tests, and the main story on each Debian"
        " release.\nOr what is named:",
        epilog=f"unit         static checks and unit tests\nall          all of it\n"
        f"list         this list\n{listing()}",
    )
    parser.add_argument(
        "what", nargs="*", metavar="STORY", help="stories to run, or unit, all, list"
    )
    parser.add_argument("--release", choices=RELEASES, help=f"Debian release ({RELEASES[0]})")
    parser.add_argument("--from", dest="first", metavar="STORY", help="with all: begin here")
    parser.add_argument("--jobs", type=int, default=machines_at_once(), help="stories at a time")
    parser.add_argument("--keep", action="store_true", help="keep the machine of a failed story")
    chosen = parser.parse_args()
    known = {story.name: story for story in stories()}
    for name in [*chosen.what, *([chosen.first] if chosen.first else [])]:
        if name not in (*known, "unit", "all", "list") or (
            name == chosen.first and name not in known
        ):
            print(
                f"./tests/run: there is no story {name!r}. There are:\n{listing()}", file=sys.stderr
            )
            sys.exit(2)
    for name in chosen.what:
        if name in known and chosen.release and chosen.release not in known[name].releases:
            parser.error(f"{name} begins on {' or '.join(known[name].releases)} only")
    if len(chosen.what) > 1 and {"all", "list"} & {*chosen.what}:
        parser.error("all and list stand alone")
    if chosen.first and chosen.what != ["all"]:
        parser.error("--from goes with all")
    if chosen.jobs < 1:
        parser.error("--jobs takes a number from 1")
    return chosen


def main() -> int:
    """Run the command line; returns the exit code."""
    chosen = arguments()
    if chosen.what == ["list"]:
        print(listing())
        return 0
    from tests import runner  # takes a second to load, which the list need not wait for

    return runner.run(chosen)


if __name__ == "__main__":
    sys.exit(main())
