#!/usr/bin/python3 -B
"""users.py check|apply: the web page has the roles and users of the file USERS, and no user of an
earlier one. A user without a password there gets one from the host, in a file of the folder
USER_PASSWORDS. Written by the deploy of Airflow.

No password is in an argument or an output.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from commands import put
from lib import fail, host, usage

SYNC = Path(__file__).resolve().with_name("sync-users.py")


def passwords(folder: Path) -> dict[str, str]:
    """The passwords in a folder, by the names of their users."""
    if not folder.is_dir():
        return {}
    return {path.name: path.read_text().strip() for path in sorted(folder.iterdir())}


def make(folder: Path, names: set[str]) -> None:
    """Make passwords for these users; one of an earlier run that was killed stays."""
    there = passwords(folder)
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        if not there.get(name):
            put(folder / name, secrets.token_urlsafe(18))


def sync(action: str, run: str, state: dict[str, Any]) -> None:
    """Compare or change the database; ends the program with its status if that is not 0."""
    done = subprocess.run(
        [run, "python", str(SYNC), action],
        input=json.dumps(state),
        text=True,
        stdout=subprocess.DEVNULL,
    )
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Compare, or change; a second time changes nothing."""
    if sys.argv[1:] not in (["check"], ["apply"]):
        usage()
    os.umask(0o077)
    action = sys.argv[1]
    wanted = json.loads(Path(host()["USERS"]).read_text())
    nameless = {name for name, user in wanted["users"].items() if user["password"] is None}
    kept = Path(host()["USER_PASSWORDS"])
    # Passwords count once the database has them.
    new = kept.with_name(f"{kept.name}.new")
    there = passwords(kept)
    if action == "check" and (there.keys() != nameless or new.exists()):
        fail("other users than those of the inventory have a password of the host's")
    if action == "apply" and (missing := nameless - there.keys()):
        make(new, missing)
    fresh = {name: each for name, each in passwords(new).items() if name in nameless}
    sync(action, host()["RUN"], {**wanted, "passwords": there | fresh, "renewed": [*fresh]})
    if action == "check":
        return
    if nameless:
        kept.mkdir(mode=0o700, exist_ok=True)
        for name in fresh:
            os.replace(new / name, kept / name)
        for name in there.keys() - nameless:
            kept.joinpath(name).unlink()
    else:
        shutil.rmtree(kept, ignore_errors=True)
    shutil.rmtree(new, ignore_errors=True)


if __name__ == "__main__":
    main()
