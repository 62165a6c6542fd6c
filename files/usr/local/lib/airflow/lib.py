"""Shared by the programs in Python, as lib.sh is by those in sh. Some run often, so it is small."""

import os
import re
import shlex
import sys
from functools import cache

TYPE_CHECKING = False  # for mypy it is true; typing takes a sixth of a short program's time to load
if TYPE_CHECKING:
    from typing import NoReturn

FILE = os.environ.get("AIRFLOW_HOST_ENV", "/etc/airflow/host.env")


@cache
def host() -> dict[str, str]:
    """Each value of this host by its name, from the file that the deploy writes."""
    with open(FILE) as file:  # pathlib takes as long to load as the rest of a short program
        words = shlex.split(file.read(), comments=True)
    return dict(word.split("=", 1) for word in words)


def words(name: str) -> list[str]:
    """The words of a value, such as a command."""
    return shlex.split(host()[name])


def take_surroundings() -> None:
    """Begin this program again with the surroundings that lib.sh gives, unless it has them."""
    if "AIRFLOW_SURROUNDINGS" not in os.environ:
        program = os.path.join(os.path.dirname(__file__), "surroundings.sh")
        os.execv(program, [program, sys.executable, "-B", *sys.argv])


def printable(text: str) -> str:
    """A text without characters that would drive a terminal: as Python escapes them."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def fail(message: str) -> "NoReturn":
    """Say what is wrong, and end."""
    sys.exit(printable(message))


def usage(fault: str = "") -> "NoReturn":
    """Show how the program is called, as the text at its top says it, and end.

    There each form of the call begins a line, and a colon ends it.
    """
    name = re.escape(os.path.basename(sys.argv[0]))
    forms = re.findall(rf"^({name}\b.*?):", sys.modules["__main__"].__doc__ or "", re.MULTILINE)
    lines = [*(f"usage: {form}" for form in forms), *([fault] if fault else [])]
    print(printable("\n".join(lines)), file=sys.stderr)
    sys.exit(2)
