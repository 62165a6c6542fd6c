"""The few operations that pyinfra does not have: each compares a fact, then acts.

All commands of an operation run on the host. Secrets of the host's own never leave it.
"""

from __future__ import annotations

import hashlib
import shlex
import tarfile
from collections.abc import Callable, Generator, Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path, PurePosixPath

from pydantic import SecretStr
from pyinfra import host, logger
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.files import FileContents
from pyinfra.facts.server import Command
from pyinfra.operations.util.files import generate_color_diff

from tasks.layout import COMMAND_LOCK, LIB
from tasks.lib.shell import assignments

WHOLE_FILE = Path(__file__).with_name("whole-file.sh")
FOLDER_PROGRAM = Path(__file__).with_name("folder.sh")
PACKAGES_PROGRAM = Path(__file__).with_name("packages.sh")
STILL_BUSY = "a command of an earlier deploy still runs: look at ps -ef"
MAX_WAIT = 900  # seconds; the longest command waits 10 minutes for tokens to end


@operation()
def packages(packages: list[str], record: str) -> Generator[str, None, None]:
    """
    Install Debian packages that are missing; refresh apt's lists only then.

    + packages: names, without versions; of «one|another», the second counts if it is there already
    + record: file on the host that lists the packages that came with it, their dependencies too
    """
    installed = host.get_fact(DebPackages)
    choices = [package.split("|") for package in packages]
    missing = [names[0] for names in choices if not installed.keys() & {*names}]
    if not missing:
        host.noop("all packages are installed")
        return
    yield with_arguments(PACKAGES_PROGRAM, [record, *missing])


def refused(*said: str) -> str:
    """A command that says these sentences and fails."""
    return f"printf '%s\\n' {shlex.join(said)} >&2; exit 1"


def _succeeds(test: str) -> bool:
    """Whether a test, or a program that is sent as text, ends with 0 on the host."""
    asked = f"if ( {test}\n) >/dev/null 2>&1; then echo yes; fi"
    return bool(host.get_fact(Command, command=asked) == "yes")


@operation()
def run_unless(test: str, commands: list[str], already: str) -> Generator[str, None, None]:
    """
    Run commands unless a test says that the host is already as they would make it.

    This is for a test and commands of one line each; a step with control flow is a program.

    + test: shell command without side effects; it ends with 0 if there is nothing to do
    + commands: they change the host; afterwards the test must succeed
    + already: a sentence that is true of the host when there is nothing to do
    """
    if _succeeds(test):
        host.noop(already)
        return
    yield from map(alone, commands)


@operation()
def ensure(program: str, already: str, args: Sequence[str] = ()) -> Generator[str, None, None]:
    """
    Run a program of the deploy unless it says that there is nothing to do.

    Each program has the same contract: `check` ends with 0 if there is nothing to do, and changes
    nothing; `apply` makes it so, and may be killed and run again.

    + program: its name in /usr/local/lib/airflow; it has something to do if it is not there yet
    + already: a sentence that is true of the host when there is nothing to do
    + args: the program's arguments after `check` or `apply`; nothing secret
    """
    check, apply = (shlex.join([f"{LIB}/{program}", verb, *args]) for verb in ("check", "apply"))
    if _succeeds(check):
        host.noop(already)
        return
    yield alone(apply)


@operation()
def ensure_sent(
    program: Path, already: str, args: Sequence[str] = ()
) -> Generator[str, None, None]:
    """
    Run a shell program of this machine unless it says that there is nothing to do.

    This is `ensure` for a host that does not have the deploy's programs yet, or no longer: the text
    of the program is sent.

    + program: the file, on this machine
    + already: a sentence that is true of the host when there is nothing to do
    + args: the program's arguments after `check` or `apply`; nothing secret
    """
    check, apply = (with_arguments(program, [verb, *args]) for verb in ("check", "apply"))
    if _succeeds(check):
        host.noop(already)
        return
    yield alone(apply)


def with_arguments(program: Path, args: Sequence[str]) -> str:
    """The text of a shell program that has these arguments when it is run as a command."""
    first, rest = program.read_text().split("\n", 1)
    return f"{first}\nset -- {shlex.join(args)}\n{rest}"


@operation()
def secret_file(
    path: str,
    content: SecretStr,
    user: str = "root",
    group: str = "root",
    mode: str = "600",
    redacted: Callable[[str], str] | None = None,
) -> Generator[str | StringCommand, None, None]:
    """
    Write a file that only its user, and perhaps a group, can read.

    The content goes through the command's standard input: it is in no argument, no output and no
    diff, and on the host never in a file that others can read.

    + path: on the host
    + content: its text, to which a newline is added
    + user: the file's owner
    + group: the file's group
    + mode: its mode, with rights of the group if that may read it
    + redacted: turns the content into text that --diff may show; none shows nothing
    """
    text = content.get_secret_value().removesuffix("\n") + "\n"
    # pyinfra shows the text of its questions, so they have not even a checksum of the content. If
    # nobody read the input, its writer would fail.
    like = f"-user {user} -group {group} -perm {mode} -exec cmp -s {{}} \\; -print"
    state = f"find {path} {like}; cat >/dev/null"
    if host.get_fact(Command, command=state, _stdin=StringIO(text)) == path:
        host.noop(f"{path} has the right content")
        return
    if redacted and host.state.config.DIFF:
        there = "".join(f"{line}\n" for line in host.get_fact(FileContents, path=path) or [])
        host.log(f"Will write {path}, whose secrets are not shown", logger.info)
        lines = (redacted(each).splitlines(keepends=True) for each in (there, text))
        for line in generate_color_diff(*lines):
            logger.info("  %s", line)
    yield StringCommand(f"umask 077; cat > {shlex.quote(path)}.new", _stdin=StringIO(text))
    yield with_arguments(WHOLE_FILE, [path, f"{user}:{group}", mode])


Source = Path | str  # a file of this machine, or a text


def checksums(sources: Mapping[str, Source]) -> str:
    """Files as sha256sum lists them, by the paths given, and a comment for each program."""
    lines = []
    for name, source in sources.items():
        lines.append(f"{hashlib.sha256(_content(source)).hexdigest()}  {name}\n")
        if _is_program(source):
            lines.append(f"# {name} is a program\n")
    return "".join(lines)


def _content(source: Source) -> bytes:
    return source.encode() if isinstance(source, str) else source.read_bytes()


def _is_program(source: Source) -> bool:
    return isinstance(source, Path) and bool(source.stat().st_mode & 0o100)


@operation()
def synced_folder(
    sources: Mapping[str, Source], dest: str, record: str, accept: str = ""
) -> Generator[str | FileUploadCommand, None, None]:
    """
    Give a folder of the host the files of this machine, and remove those brought earlier.

    Other files of the folder stay as they are. Each file is replaced in one step, and has the time
    of its arrival: systemd and Airflow look for files that are newer than those they have read.

    + sources: the files, or their text, by their path in the folder
    + dest: the folder
    + record: file on the host that lists the files that were brought
    + accept: a command that gets the path of a folder with the new files; the files stay as they
      are if the command fails
    """
    listed = checksums(sources)
    variables = {
        "dest": dest,
        "record": record,
        "accept": accept,
        "wanted": hashlib.sha256(listed.encode()).hexdigest() if sources else "",
    }
    if _succeeds(_folder("check", variables)):
        host.noop(f"{dest} has the files")
        return
    yield _upload(_archive(sources, dest), f"{record}.tar")
    yield _upload(BytesIO(listed.encode()), f"{record}.new")
    yield _folder("apply", variables)


def _upload(content: BytesIO, dest: str) -> FileUploadCommand:
    """An upload by way of the folder that connection.use_private_folder chose."""
    given = host.current_op_global_arguments
    folder = given.get("_temp_dir") if given else None
    through = host.get_temp_filename(dest, temp_directory=folder) if folder else None
    return FileUploadCommand(content, dest, remote_temp_filename=through)


def _folder(action: str, variables: Mapping[str, str]) -> str:
    """The program that compares or changes a folder; it comes with its variables, since none of the
    deploy's programs is on the host before it ran."""
    return assignments({"action": action, **variables}) + FOLDER_PROGRAM.read_text()


def _archive(sources: Mapping[str, Source], dest: str) -> BytesIO:
    """The files at their paths on the host, without owner and time."""
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, source in sources.items():
            data = _content(source)
            entry = tarfile.TarInfo(f"{dest.lstrip('/')}/{name}")
            entry.size = len(data)
            entry.mode = 0o755 if _is_program(source) else 0o644
            archive.addfile(entry, BytesIO(data))
    content.seek(0)
    return content


# Each command begins with this. It waits for the command of a killed deploy, which continues
# without its connection and may do the same work.
ALONE = f"""mkdir -m 700 -p {PurePosixPath(COMMAND_LOCK).parent}
exec 8>>{COMMAND_LOCK}
flock -w {MAX_WAIT} 8 || {{ echo {shlex.quote(STILL_BUSY)} >&2; exit 1; }}
"""


def alone(command: str) -> str:
    """A command that runs while no other command of a deploy does."""
    return ALONE + command
