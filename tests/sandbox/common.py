"""Helpers of the sandbox's modules: the cache folder, commands, locks and bounded waits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

POLL_SECONDS = 0.2
# Of this machine, so also of its containers; as Go and Kubernetes name it.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class SandboxError(Exception):
    """Something the sandbox needs is missing or failed; the message says what to do."""


def cache_dir() -> Path:
    """Return the folder of everything the sandbox keeps, creating it when it is missing."""
    chosen = os.environ.get("AIRFLOW_SANDBOX_CACHE")
    folder = Path(chosen) if chosen else Path.home() / ".cache" / "airflow-sandbox"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def progress(text: str) -> None:
    """Print one line about what happens next."""
    print(text, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    stdin: bytes | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command quietly and return it with its output as text.

    `env` is added to this process's environment; `timeout` is in seconds.
    Raises SandboxError with the end of the command's output when it fails.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=stdin or b"",
            capture_output=True,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise SandboxError(f"The program {words[0]!r} is missing: install it.") from error
    except subprocess.TimeoutExpired as error:
        raise SandboxError(
            f"'{shlex.join(words)}' was not done after {timeout:.0f} s: run it by hand to see why."
        ) from error
    result = subprocess.CompletedProcess(
        words,
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )
    if check and result.returncode:
        end = "\n".join((result.stderr or result.stdout).strip().splitlines()[-15:])
        raise SandboxError(f"{end}\n'{shlex.join(words)}' ended with {result.returncode}.")
    return result


def wait_for(condition: Callable[[], bool], *, seconds: float, failure: str) -> None:
    """Return as soon as `condition()` is true; raise SandboxError(failure) after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SandboxError(failure)
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache, so that two processes do not build the same thing."""
    folder = cache_dir() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"Waiting for another process that works on {name!r}…")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def fresh_folder(final: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `final` when the block ends without an error.

    The remains of a killed run are removed first, so `final` is complete whenever it exists.
    """
    draft = final.with_name(final.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new one, never a part."""
    draft = path.with_name(path.name + ".partial")
    draft.write_text(text)
    draft.rename(path)


def ensure_packages(*names: str) -> None:
    """Install the apt packages that this machine lacks; raises SandboxError when it cannot."""
    if shutil.which("apt-get") is None:
        raise SandboxError("The sandbox needs Debian or Ubuntu: this machine has no apt-get.")
    if not _missing(names):
        return
    if os.geteuid() != 0:
        raise SandboxError(f"As root, run: apt-get install {' '.join(_missing(names))}")
    with locked("apt"):  # a second apt-get would not wait
        if missing := _missing(names):
            progress(f"Installing {', '.join(missing)} (about 1 minute, once)…")
            install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
            quiet = {"DEBIAN_FRONTEND": "noninteractive"}
            run(["apt-get", "update", "-q"], env=quiet)
            run(install, env=quiet)


def _missing(names: Sequence[str]) -> list[str]:
    return [name for name in names if not _installed(name)]


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    return run(query, check=False).stdout == "installed"
