"""Log files are opened so that nothing in their folder stops the process that opens them.

Tasks write to the folder, and may leave a pipe, a link or a file of any size where Airflow expects
a log. Airflow 3.3.2 waits for a pipe, follows a link that changes after it looked at it, and keeps
a line of any length in memory. Each of Airflow's processes loads this first, with
airflow_deploy_policy.py.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_deploy_imports import replace

MiB = 1 << 20
SHOWN = 8 * MiB  # of the beginning of a file, and of its end
LONGEST_LINE = MiB
MOST_FILES = 100  # of one attempt of a task
MOST_NAMES = 10_000  # of a folder


def opened(path: str | Path, flags: int, folder: str) -> int:
    """A descriptor of a regular file below a folder; anything else is an OSError.

    It never waits.
    """
    # The mode as Airflow gives it: the group reads and writes.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o664)
    try:
        # The file that is open, wherever links led; a look at the path could be fooled.
        place = os.readlink(f"/proc/self/fd/{descriptor}")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no file")
        if os.path.commonpath([os.path.realpath(folder), place]) != os.path.realpath(folder):
            raise OSError(f"{path} is outside of {folder}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class LogFile(type(Path())):  # type: ignore[misc]
    """A log's path. If no log can be there, the text is lost, and its writer continues."""

    folder: str  # the folder in which the log must be

    def open(self, mode: str = "r", *rest: Any, **options: Any) -> Any:
        """The file, or /dev/null."""
        arguments: dict[str, Any] = {**options, "opener": self._opened}
        return open(self, mode, *rest, **arguments)

    def _opened(self, path: str, flags: int) -> int:
        try:
            # Not truncated before it is known to be a log.
            descriptor = opened(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW, self.folder)
        except OSError:
            return os.open(os.devnull, flags)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
        return descriptor


def lines(descriptor: int, name: str) -> Iterator[str]:
    """The lines of a file, or of its beginning and its end; parts of a line that is too long."""
    with open(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield from _lines(file, min(size, SHOWN) if size > 2 * SHOWN else 2 * SHOWN)
        if size > 2 * SHOWN:
            yield f"[{(size - 2 * SHOWN) >> 20} MiB are left out here; the whole log is {name}]"
            file.seek(size - SHOWN)
            yield from _lines(file, SHOWN)


def _lines(file: Any, most: int) -> Iterator[str]:
    while most > 0 and (line := file.readline(min(most, LONGEST_LINE))):
        most -= len(line)
        yield line.decode(errors="replace").removesuffix("\n")


def files_of(log: Path) -> list[Path]:
    """The files of an attempt, its log first; some of them where a task left very many."""
    names = {log.name}
    with suppress(OSError), os.scandir(log.parent) as folder:
        names |= {each.name for each in islice(folder, MOST_NAMES)}
    found = sorted(name for name in names if name.startswith(log.name))
    return [log.parent / name for name in found[:MOST_FILES]]


def read_from_local(handler: Any, log: Path) -> tuple[list[str], list[Iterator[str]]]:
    """The names and the lines of an attempt's files; in place of FileTaskHandler's method."""
    sources, streams = [], []
    for path in files_of(log):
        try:
            descriptor = opened(path, os.O_RDONLY, handler.local_base)
        except OSError:
            continue
        sources.append(str(path))
        streams.append(lines(descriptor, str(path)))
    return sources, streams


def read_from_logs_server(
    handler: Any, task_instance: Any, name: str, *rest: Any
) -> tuple[list[str], list[Iterator[str]]]:
    """No service of this host serves logs, and the name of the server would come from the task."""
    return [], []


HARM = "Pipes and links among the logs may stop a service"


def init_log_file(own: Any) -> Any:
    """The file that a process writes, with the folder in which it must be."""

    def replaced(path: str | Path) -> LogFile:
        from airflow.configuration import conf

        file = LogFile(own(path))
        # The dag-processor's paths are absolute, and in a folder that tasks do not see.
        inside = not os.path.isabs(path)
        file.folder = conf.get("logging", "base_log_folder") if inside else str(file.parent)
        return file

    return replaced


def install() -> None:
    """Put these in the places of Airflow's own."""
    from airflow.sdk import log
    from airflow.utils.log.file_task_handler import FileTaskHandler as Handler

    replace(log, "init_log_file", "local_relative_path", init_log_file, HARM)
    for name, parameters, function in (
        ("_read_from_local", "self worker_log_path", read_from_local),
        ("_read_from_logs_server", "self ti worker_log_rel_path", read_from_logs_server),
    ):
        replace(Handler, name, parameters, lambda _, own=function: own, HARM)
