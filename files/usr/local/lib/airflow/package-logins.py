#!/usr/bin/python3 -B
"""package-logins.py FILE FILE: print both files of logins to package indexes, as netrc has them.

The first one may be missing. It is root's own: if programs could not read it, it is left out, since
it would hide the logins of the other one from them. Written by the deploy of Airflow.
"""

import netrc
import sys
from pathlib import Path

from lib import usage


def readable(path: Path) -> str:
    """The text of a file that programs can read, or none. A message shows no word of it."""
    try:
        text = path.read_text(encoding="utf-8")
        netrc.netrc(str(path))
    except FileNotFoundError:
        return ""
    except UnicodeError:
        print(f"{path} is left out: it is not UTF-8", file=sys.stderr)
        return ""
    except netrc.NetrcParseError as error:
        where = f"line {error.lineno}, or the one before, is no login"
        print(f"{path} is left out: {where}", file=sys.stderr)
        return ""
    return text


def main() -> None:
    """Print the logins."""
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        usage()
    theirs, ours = map(Path, sys.argv[1:])
    print(readable(theirs), ours.read_text(), sep="\n", end="")


if __name__ == "__main__":
    main()
