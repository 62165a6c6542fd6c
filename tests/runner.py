"""Runs the checks and the stories of `tests/run`, stories side by side on machines of their own.

A story's machine is a bare one, or a copy of one that was deployed once for all stories of the same
code. Each runs on a slot: a name and an address that its machine keeps, since a cluster's
certificates and the name of its node cannot change. A slot that another run uses is left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from tasks.layout import ROOT
from tests.e2e.snapshots import HOST_BEFORE, LOOK_AT_HOST
from tests.e2e.support import log_in
from tests.sandbox import disks, machine, offline
from tests.sandbox.common import SandboxError, cache_dir, ensure_packages, progress
from tests.stories import RELEASES, Story, stories
from tests.support import wait_for

# Whatever changes how a deployed machine looks.
DEPLOYED_FROM = ("deploy.py", "tasks", "files", "inventories", "uv.lock", "tests/sandbox")
DEPLOY_MINUTES = 3
HEALTHY_SECONDS = 240
RUNS_KEPT = 20
MOST_FAILURES = 5  # of one story: more of them are unlikely to tell more
SHELL = ("up", "down", "tools.sh", "kicbase.sh", "engine-runc.sh")
# GitHub's files by the schemas that come with check-jsonschema.
SCHEMAS = {
    "github-workflows": ".github/workflows/*",
    "dependabot": ".github/dependabot.yml",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/bug.yml",
    "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
}
CHECK_SCHEMA = ("check-jsonschema", "--quiet", "--builtin-schema")
STATIC_CHECKS = (
    ("ruff", "check", "--quiet", "."),
    ("ruff", "format", "--check", "--quiet", "."),
    ("mypy",),
    ("lint-imports", "--no-cache", "--no-logo"),
    ("shellcheck", "-x", "tests/run", *(f"tests/sandbox/{name}" for name in SHELL), ".ci/run"),
    *(
        (*CHECK_SCHEMA, f"vendor.{schema}", *map(str, ROOT.glob(files)))
        for schema, files in SCHEMAS.items()
    ),
)

# A process for each core, not only for each physical one, as "auto" would take it where psutil is
# installed. Tests of a file stay in one process, which then makes what they share once. By default
# files with few tests come last, and some of them take longest: then one process ends alone.
UNIT_TESTS = (
    *(sys.executable, "-m", "pytest", "-n", "logical"),
    *("--dist", "loadfile", "--no-loadscope-reorder"),
)


@dataclass
class Run:
    """A story on a release: how far it is, or how it ended."""

    story: Story
    release: str
    step: str = "waits"
    began: float = 0.0
    ended: float = 0.0
    passed: int = 0
    failed: int = 0
    error: str = ""
    evidence: Path | None = None

    @property
    def title(self) -> str:
        """The story with its release."""
        return f"{self.story.name} ({self.release})"

    @property
    def ok(self) -> bool:
        """Whether tests were run and all of them passed."""
        return bool(self.passed and not self.failed and not self.error)

    @property
    def elapsed(self) -> str:
        """Minutes and seconds since it began, until now or until it ended."""
        seconds = int((self.ended or time.monotonic()) - self.began) if self.began else 0
        return f"{seconds // 60}:{seconds % 60:02}"


def deployed_state(release: str) -> str:
    """Name of the state of a machine that this checkout's code deployed; differs when it would."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard", "--", *DEPLOYED_FROM],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    digest = hashlib.sha256(release.encode())
    for name in sorted({*listed.split("\0")} - {""}):
        path = ROOT / name
        digest.update(f"{name}\0".encode() + (path.read_bytes() if path.exists() else b""))
    return f"{release}-{digest.hexdigest()[:12]}"


@contextlib.contextmanager
def slot() -> Iterator[str]:
    """Hold a slot that no other run uses; yields the name of its machine."""
    folder = cache_dir() / "locks"
    folder.mkdir(exist_ok=True)
    number = 1
    while True:
        with (folder / f"slot-{number}").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                number += 1
                continue
            yield f"airflow-test-{number}"
            return


def clear(name: str) -> None:
    """Remove the machine of a slot, and those that a story made beside it."""
    for folder in disks.folder().glob(f"{name}-*"):
        machine.remove(folder.name)
    machine.remove(name)


def child(command: list[str], name: str, evidence: Path) -> subprocess.Popen[str]:
    """Start a command that works on the machine `name`."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"AIRFLOW_SANDBOX": name, "AIRFLOW_EVIDENCE": str(evidence)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


class Runner:
    """Runs stories, some at a time, and tells how far they are."""

    def __init__(self, runs: list[Run], folder: Path, keep: bool) -> None:
        self.runs, self.folder, self.keep = runs, folder, keep
        self._waiting = list(runs)
        self._children: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, at_once: int) -> None:
        """Run all; a story that fails does not hold up the others."""
        # Not by join: one that a signal interrupts takes its thread for ended (Python 3.11,
        # Thread._wait_for_tstate_lock), and nobody waits until the machines are removed.
        at_once = min(at_once, len(self.runs))
        with ThreadPoolExecutor(at_once) as pool:
            workers = [pool.submit(self._work) for _ in range(at_once)]
            try:
                self._tell(workers)
                for each in workers:
                    each.result()
            except BaseException:
                self._stop()
                raise

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._waiting.clear()
            for process in self._children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)

    def _tell(self, workers: list[Future[None]]) -> None:
        """Show what runs: always on a terminal, otherwise a line a minute."""
        terminal, told = sys.stdout.isatty(), time.monotonic()
        while wait(workers, timeout=1).not_done:
            running = [run for run in self.runs if run.began and not run.ended]
            line = " | ".join(f"{run.title} {run.elapsed} {run.step}" for run in running)
            if terminal:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r\x1b[K{line[:width]}", end="", flush=True)
            elif time.monotonic() - told >= 60:
                told = time.monotonic()
                progress(line)

    def _work(self) -> None:
        with slot() as name:
            while True:
                with self._lock:
                    if not self._waiting:
                        return
                    run = self._waiting.pop(0)
                    run.began = time.monotonic()
                self._play(run, name)

    def _play(self, run: Run, name: str) -> None:
        run.evidence = self.folder / f"{run.story.name}-{run.release}"
        run.evidence.mkdir(parents=True)
        try:
            self._prepare(run, name)
            self._test(run, name)
        except (SandboxError, AssertionError) as error:
            run.error = str(error)
        except Exception as error:  # a fault of this program must not look like a success
            run.error = repr(error)
        run.ended = time.monotonic()
        with self._lock:
            print("\r\x1b[K" if sys.stdout.isatty() else "", end="")
            progress(f"{run.title}: {self.outcome(run)} after {run.elapsed}")
        if self.keep and not run.ok:
            progress(f"Kept: python -m tests.sandbox.machine ssh {name}")
            self._waiting.clear()
            return
        try:
            clear(name)
        except SandboxError as error:
            run.error = run.error or str(error)
            progress(f"{name} was not removed: {error}")

    def _prepare(self, run: Run, name: str) -> None:
        """Make the machine that the story starts on."""
        assert run.evidence
        run.step = "makes its machine"
        clear(name)
        if run.story.start == "bare":
            machine.create(name, run.release)
            return
        state = deployed_state(run.release)
        if not machine.has_state(name, state):
            self._deploy(run, name)
            machine.save(name, state)
        run.step = "starts its machine"
        airflow = log_in(machine.restore(name, state))
        wait_for(
            lambda: set(airflow.health().values()) == {"healthy"},
            HEALTHY_SECONDS,
            "Airflow is healthy after its machine was copied",
        )

    def _deploy(self, run: Run, name: str) -> None:
        assert run.evidence
        progress(
            f"Deploying into Debian {run.release} ({name}), once for all stories of this code"
            f" (about {DEPLOY_MINUTES} minutes)…"
        )
        run.step = "deploys"
        made = machine.create(name, run.release)
        machine.run(made, f"{LOOK_AT_HOST} > {HOST_BEFORE}")
        command = ["pyinfra", "--yes", "inventories/sandbox.py", "deploy.py"]
        log = run.evidence / "first-deploy.txt"
        if self._follow(command, name, run, log):
            raise SandboxError(f"The deploy failed: {log}")

    def _test(self, run: Run, name: str) -> None:
        assert run.evidence
        results = run.evidence / "results.xml"
        command = [
            *(sys.executable, "-m", "pytest", f"tests/e2e/{run.story.name}", "--verbose"),
            *("--durations=0", f"--junitxml={results}", f"--maxfail={MOST_FAILURES}"),
        ]
        code = self._follow(command, name, run, run.evidence / "tests.txt")
        if results.exists():
            (suite,) = ElementTree.parse(results).getroot()
            run.failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
            skipped = int(suite.attrib["skipped"])
            run.passed = int(suite.attrib["tests"]) - run.failed - skipped
            if skipped:
                run.error = f"{skipped} skipped"
        if code and not run.failed:
            run.error = f"pytest ended with {code}: {run.evidence / 'tests.txt'}"

    def _follow(self, command: list[str], name: str, run: Run, log: Path) -> int:
        """Run a command with its output in a file; its last line is the story's step."""
        assert run.evidence
        with self._lock:
            if self._stopped:
                raise SandboxError("stopped")
            process = child(command, name, run.evidence)
            self._children.append(process)
        assert process.stdout
        with log.open("w") as file:
            self._read(process.stdout, file, run)
        return process.wait()

    @staticmethod
    def _read(source: IO[str], target: IO[str], run: Run) -> None:
        line = ""
        while text := os.read(source.fileno(), 65536).decode(errors="replace"):
            target.write(text)
            target.flush()
            line = (line + text).rpartition("\n")[2] if "\n" in text else line + text
            # pytest names a test before it begins, and ends the line afterwards.
            if "::" in line:
                run.step = line.strip().removeprefix(f"tests/e2e/{run.story.name}/")

    @staticmethod
    def outcome(run: Run) -> str:
        """How a run ended, in a few words."""
        if run.error:
            return f"failed: {run.error}"
        if run.failed:
            return f"{run.failed} failed, {run.passed} passed"
        return f"{run.passed} passed" if run.passed else "not run"


def checks(*paths: str) -> tuple[int, int]:
    """Run the static checks and the unit tests; returns how many passed and failed."""
    ensure_packages("systemd", "iproute2", "openssl", "nftables")  # the first judges the units
    if not list(Path("/usr/lib/postgresql").glob("*/bin")):
        ensure_packages("postgresql")
    if not Path("/usr/sbin/nginx").exists():
        ensure_packages("nginx")
    compiled = cache_dir() / "python"
    environment = os.environ | {
        # Kept for all checkouts: without what it knows, mypy takes several times as long,
        "MYPY_CACHE_DIR": str(cache_dir() / "mypy"),
        # and Python, for which a checkout and its environment are often new, three times as long.
        "PYTHONPYCACHEPREFIX": str(compiled),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    # Beside the tests, which often wait for what they started.
    static = {
        command: subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for command in STATIC_CHECKS
    }
    tests = subprocess.run([*UNIT_TESTS, *paths], cwd=ROOT, env=environment, check=False)
    failed = int(tests.returncode != 0)
    # Each run has other folders for what its tests make.
    shutil.rmtree(f"{compiled}{tempfile.gettempdir()}", ignore_errors=True)
    for command, process in static.items():
        said, _ = process.communicate()
        if process.returncode:
            progress(f"failed: {' '.join(command)}\n{said}")
            failed += 1
    return len(STATIC_CHECKS) + 1 - failed, failed


@functools.cache
def commit() -> str:
    """The commit that is tested; with a + if files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def table(runs: list[Run]) -> str:
    """A table of the runs, a line each."""
    rows = [("story", "release", "tests", "minutes", "result", "commit")]
    for run in runs:
        result = "passed" if run.ok else Runner.outcome(run)
        tests = str(run.passed + run.failed)
        in_short = textwrap.shorten(result, 60, placeholder=" …")
        rows.append((run.story.name, run.release, tests, run.elapsed, in_short, commit()))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def chosen_runs(chosen: argparse.Namespace) -> list[Run]:
    """The runs that the command line asks for."""
    found = stories()
    names = [story.name for story in found]
    if not chosen.what:
        releases = [chosen.release] if chosen.release else list(RELEASES)
        return [Run(found[0], release) for release in releases]
    release = chosen.release or RELEASES[0]
    if chosen.what == ["all"]:
        start = names.index(chosen.first) if chosen.first else 0
        return [Run(story, release) for story in found[start:] if release in story.releases]
    return [Run(found[names.index(name)], release) for name in chosen.what if name != "unit"]


def run(chosen: argparse.Namespace) -> int:
    """Run what the command line asks for; returns the exit code."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # Also where nobody types: a shell lets what it starts in the background ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        return _run(chosen)
    except KeyboardInterrupt:
        progress("\nInterrupted.")
        return 130
    except SandboxError as problem:
        print(problem, file=sys.stderr)
        return 1


def _run(chosen: argparse.Namespace) -> int:
    began, passed, failed = time.monotonic(), 0, 0
    if not chosen.what or {"unit", "all"} & {*chosen.what}:
        passed, failed = checks("tests/unit")
        if failed and chosen.what != ["all"]:
            return 1
    runs = chosen_runs(chosen)
    if not runs:
        return 1 if failed else 0
    folder = new_folder()
    progress(f"The output of each story: {folder}")
    ensure_packages(*machine.OUTER_PACKAGES)
    if not offline.official_downloads_reachable():
        offline.ensure()  # before the clock of the stories runs
    runner = Runner(runs, folder, chosen.keep)
    runner.run(1 if chosen.keep else chosen.jobs)
    for run in runs:
        if run.began and not run.ok and run.evidence:
            show_failure(run, run.evidence)
    progress(f"\n{table(runs)}\n")
    minutes = (time.monotonic() - began) / 60
    progress(f"{minutes:.0f} minutes in all")
    passed += sum(run.passed for run in runs)
    failed += sum(run.failed or not run.ok for run in runs)
    progress(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def new_folder() -> Path:
    """Make the folder for the output of this run's stories; remove those of old runs."""
    every = cache_dir() / "runs"
    every.mkdir(exist_ok=True)
    for old in sorted(every.iterdir())[: -RUNS_KEPT + 1]:
        # Another run that starts now may remove the same folder.
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%dT%H-%M-%S-"), dir=every))


def show_failure(run: Run, evidence: Path) -> None:
    """Print a failed story's failures, and where the rest is."""
    log = evidence / "tests.txt"
    text = log.read_text(errors="replace") if log.exists() else ""
    said = text.partition("= FAILURES =")[2] or text.partition("= ERRORS =")[2] or text[-3000:]
    said = said.partition("= slowest durations =")[0]
    progress(f"\n{run.title}: {Runner.outcome(run)}\n{said[:20000]}\nEvidence: {evidence}")
