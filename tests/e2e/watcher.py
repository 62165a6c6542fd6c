"""Write down the arguments of every program that some processes, or their children, start.

    watcher.py FILE PID...

The kernel holds a traced process when it has become another program, until its arguments were read.
So none is missed, however short it runs. FILE exists as soon as the processes are watched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

# linux/ptrace.h
CONT, SEIZE, LISTEN = 7, 0x4206, 0x4208
FOLLOW_FORK, FOLLOW_VFORK, FOLLOW_CLONE, STOP_AT_EXEC = 2, 4, 8, 16
EVENT_EXEC, EVENT_STOP = 4, 128
ALL_THREADS = 0x40000000  # __WALL of waitpid
JOB_CONTROL = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long)
_ptrace.restype = ctypes.c_long


def ptrace(request: int, thread: int, data: int = 0) -> None:
    """The system call; raises OSError."""
    if _ptrace(request, thread, 0, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(thread))


def watch(process: int) -> None:
    """Trace a process with its threads, without stopping it."""
    for thread in os.listdir(f"/proc/{process}/task"):
        ptrace(SEIZE, int(thread), FOLLOW_FORK | FOLLOW_VFORK | FOLLOW_CLONE | STOP_AT_EXEC)


def main(path: str, *processes: str) -> None:
    """Watch until killed; then all of them continue."""
    for process in processes:
        watch(int(process))
    with Path(path).open("xb", buffering=0) as file:
        while True:
            thread, status = os.waitpid(-1, ALL_THREADS)
            if not os.WIFSTOPPED(status):
                continue
            event, number = status >> 16, os.WSTOPSIG(status)
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it was killed
                if event == EVENT_EXEC:
                    file.write(Path(f"/proc/{thread}/cmdline").read_bytes() + b"\n")
                if event == EVENT_STOP and number in JOB_CONTROL:
                    ptrace(LISTEN, thread)
                else:
                    ptrace(CONT, thread, 0 if event else number)


if __name__ == "__main__":
    main(*sys.argv[1:])
