#!/usr/bin/python3 -B
"""acl.py check|apply FOLDER ENTRY...: all files and folders in FOLDER have these entries in their
ACLs, and so has everything that is made there later. An ENTRY is one of setfacl's, such as
u:airflow-dags:rX. Written by the deploy of Airflow.

People and tasks may write in FOLDER while root works there. `setfacl -R` names files by their
paths, so it would follow a link that one of them puts into the place of a file or of a folder. Here
each file is opened first, without following a link, and setfacl gets the open file.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator

from lib import fail, usage

AT_ONCE = 100  # files for one setfacl; a process may have 1024 open
KINDS = {"u": "user", "g": "group"}


def default(entry: str) -> str:
    """The entry as getfacl shows it among a folder's defaults."""
    kind, name, rights = entry.split(":")
    shown = "".join(each if each in rights.lower() else "-" for each in "rwx")
    return f"default:{KINDS[kind]}:{name}:{shown}"


def check(folder: str, entries: list[str]) -> None:
    """Fail unless the folder itself has the defaults; it gets them last."""
    done = subprocess.run(["getfacl", "-cp", folder], stdout=subprocess.PIPE, text=True, check=True)
    for entry in entries:
        if default(entry) not in done.stdout.splitlines():
            fail(f"{folder} has no {default(entry)} in its ACL")


def opened(folder: str) -> Iterator[tuple[int, bool]]:
    """Each file and folder in a folder, opened, and whether it is a folder."""
    for _, folders, files, here in os.fwalk(folder):  # it enters no link
        for name in (*folders, *files):
            try:
                file = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
            except FileNotFoundError:
                continue  # a task has deleted it
            mode = os.fstat(file).st_mode
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                yield file, stat.S_ISDIR(mode)
            else:
                os.close(file)


def give(entries: list[str], files: list[int], are_folders: bool) -> None:
    """Give opened files the entries, and close them."""
    if not files:
        return
    given = [*entries, *(f"d:{entry}" for entry in entries)] if are_folders else entries
    paths = [f"/proc/self/fd/{file}" for file in files]
    done = subprocess.run(["setfacl", "-m", ",".join(given), *paths], pass_fds=files, check=False)
    for file in files:
        os.close(file)
    if done.returncode:
        fail("it needs a file system with ACLs (with ZFS: zfs set acltype=posix)")


def apply(folder: str, entries: list[str]) -> None:
    """Give the entries to everything in the folder, and then to itself."""
    waiting: dict[bool, list[int]] = {False: [], True: []}
    for file, is_folder in opened(folder):
        waiting[is_folder].append(file)
        if len(waiting[is_folder]) == AT_ONCE:
            give(entries, waiting[is_folder], is_folder)
            waiting[is_folder] = []
    for is_folder, files in waiting.items():
        give(entries, files, is_folder)
    give(entries, [os.open(folder, os.O_PATH)], are_folders=True)


def main() -> None:
    """Check or apply."""
    match sys.argv[1:]:
        case ["check", folder, _, *_]:
            check(folder, sys.argv[3:])
        case ["apply", folder, _, *_]:
            apply(folder, sys.argv[3:])
        case _:
            usage()


if __name__ == "__main__":
    main()
