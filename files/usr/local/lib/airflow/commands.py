"""Commands, locks and files, for the programs in Python."""

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from lib import fail, host


def path(name: str) -> Path:
    """A path among the values of this host."""
    return Path(host()[name])


def advised(error: str) -> str:
    """An error of kubectl, with advice if the deploy's login lacks a right."""
    if "(Forbidden)" in error:
        error += " An administrator of the cluster should apply cluster-rights.yaml again."
    return error


def status(
    *command: str,
    silent: bool = False,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
) -> int:
    """The status with which a command ends. It shows its errors unless it should be silent."""
    errors = subprocess.DEVNULL if silent else None
    # Children hold the locks too: one that outlives this process may still change something.
    try:
        done = subprocess.run(command, stdin=stdin, stdout=stdout, stderr=errors, close_fds=False)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 127  # as sh has it
    return done.returncode


def succeeds(*command: str, silent: bool = False) -> bool:
    """Whether a command ends with status 0."""
    return status(*command, silent=silent) == 0


def output(*command: str, silent: bool = False) -> str | None:
    """The output of a command, none if it fails."""
    errors = subprocess.DEVNULL if silent else None
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, close_fds=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def lock(file: Path, seconds: int) -> int | None:
    """Lock a file until this process and its children end; none if others hold it for so long."""
    descriptor = os.open(file, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    return descriptor if succeeds("flock", "-w", str(seconds), str(descriptor)) else None


def take_lock() -> bool:
    """Take the deploy's lock until this process and its children end; false if a deploy holds it.

    tasks/lib/lock.py takes it for the deploy.
    """
    file = path("DEPLOY_LOCK")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    file.touch()
    if lock(file, 3) is None:
        return False
    file.write_text(f"{Path(sys.argv[0]).name} on the host\n")
    return True


def put(file: Path, content: str, mode: int = 0o600, group: str | None = None) -> None:
    """Replace the content of a file in one step, and end it with a newline.

    Only root can read the file, unless it has a mode. A folder may give it another group.
    """
    new = Path(f"{file}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(descriptor, "w", errors="surrogateescape") as stream:
            if group:
                subprocess.run(["chgrp", group, new], check=True)
            os.fchmod(descriptor, mode)
            stream.write(f"{content}\n")
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        program = Path(sys.argv[0]).name
        fail(f"{program}: {file} can't be written and is as it was: {error}")
