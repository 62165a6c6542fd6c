"""The few operations that pyinfra does not have: each compares a fact, then acts.

All commands of an operation run on the host. Secrets of the host's own never leave it.
"""

from __future__ import annotations

import hashlib
import shlex
import tarfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr
from pyinfra import host
from pyinfra.api import FactBase, FileUploadCommand, StringCommand, operation
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.files import Sha256File

from tasks.layout import LIB


class Download(NamedTuple):
    """A pinned file. `sha256` is the official one; an offline folder has its own SHA256SUMS."""

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """Its name, in the offline folder too."""
        return self.url.rpartition("/")[2]

    @property
    def host(self) -> str:
        """Name of the server that it comes from."""
        return urlsplit(self.url).hostname or ""


BUSY = "/run/lock/airflow-deploy-command"  # locked while a command changes the host
FOLDER_PROGRAM = Path(__file__).with_name("folder.sh")
MAX_WAIT = 900  # seconds; the longest command takes a fifth of it

INSTALLED = "dpkg-query -Wf '${db:Status-Abbrev}${Package}\\n' | sed -n 's/^ii *//p' | sort -u"


@operation()
def debian_packages(packages: list[str], record: str) -> Generator[str, None, None]:
    """
    Install Debian packages that are missing; refresh apt's lists only then.

    + packages: names, without versions
    + record: file on the host that lists what came thereby, also what the packages depend on
    """
    installed = host.get_fact(DebPackages)
    missing = [package for package in packages if package not in installed]
    if not missing:
        host.noop("all packages are installed")
        return
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold"
    apt += f" -o DPkg::Lock::Timeout={MAX_WAIT}"  # somebody else's, or one of a killed run
    # A run that was killed left its list of what was there before.
    yield (
        f"install -d -m 700 {shlex.quote(str(PurePosixPath(record).parent))} && {{"
        f" test -e {record}.before || {{ {INSTALLED} > {record}.new &&"
        f" mv {record}.new {record}.before; }}; }}"
    )
    # An index whose signature is wrong is an error, also where an older one could be used.
    yield f"{apt} update --error-on=any"
    yield f"{apt} install --yes --no-install-recommends {' '.join(missing)} >/dev/null"
    yield f"{INSTALLED} | comm -13 {record}.before - >> {record} && rm {record}.before"


class Output(FactBase[str]):
    """What a shell command prints; the command must end with status 0 and change nothing."""

    def command(self, script: str) -> str:
        """The command as it is."""
        return script

    @staticmethod
    def default() -> str:
        """Nothing."""
        return ""

    def process(self, output: Iterable[str]) -> str:
        """All of its lines."""
        return "\n".join(output)


@operation()
def settled(test: str, commands: list[str], because: str) -> Generator[str, None, None]:
    """
    Run commands unless a test says that what they bring about is there already.

    + test: shell command without side effects; status 0 if nothing is to be done
    + commands: what brings the state about; afterwards the test must succeed
    + because: what is true of the host when nothing is to be done
    """
    verdict = host.get_fact(Output, script=f"if ( {test}\n) >/dev/null 2>&1; then echo yes; fi")
    if verdict == "yes":
        host.noop(because)
        return
    yield from (ALONE + command for command in commands)


@operation()
def ensure(program: str, already: str, args: Sequence[str] = ()) -> Generator[str, None, None]:
    """
    Run a program of the deploy unless it says that there is nothing to do.

    Each program has the same contract: `check` ends with 0 if there is nothing to do, and changes
    nothing; `apply` makes it so, and may be killed and run again.

    + program: its name in /usr/local/lib/airflow; one that is not there yet has something to do
    + already: a sentence that is true of the host when there is nothing to do
    + args: the program's arguments after `check` or `apply`; nothing secret
    """
    check, apply = (shlex.join([f"{LIB}/{program}", verb, *args]) for verb in ("check", "apply"))
    verdict = host.get_fact(Output, script=f"if {check} >/dev/null 2>&1; then echo yes; fi")
    if verdict == "yes":
        host.noop(already)
        return
    yield ALONE + apply


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
    verdict = host.get_fact(Output, script=f"if (\n{check}) >/dev/null 2>&1; then echo yes; fi")
    if verdict == "yes":
        host.noop(already)
        return
    yield ALONE + apply


def with_arguments(program: Path, args: Sequence[str]) -> str:
    """The text of a shell program that has these arguments when it is run as a command."""
    first, rest = program.read_text().split("\n", 1)
    return f"{first}\nset -- {shlex.join(args)}\n{rest}"


@operation()
def secret_file(path: str, content: SecretStr) -> Generator[StringCommand, None, None]:
    """
    Write a file that only root can read.

    The content goes through the command's standard input: it is in no argument, no output and no
    diff, and on the host never in a file that others can read.

    + path: on the host
    + content: what it is to hold; a newline at its end is added
    """
    text = content.get_secret_value().removesuffix("\n") + "\n"
    # Not even a checksum of it is in what pyinfra tells of its questions; a stream has no text.
    state = (
        f'test "$(stat -c %U:%G:%a {path} 2>/dev/null)" = root:root:600 && cmp -s - {path}'
        " && echo yes || cat >/dev/null"  # who writes to one that does not read fails
    )
    if host.get_fact(Output, script=state, _stdin=StringIO(text)) == "yes":
        host.noop(f"{path} has the right content")
        return
    yield StringCommand(
        f"umask 077; cat > {path}.new && chown root:root {path}.new && mv {path}.new {path}",
        _stdin=StringIO(text),
    )


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
def brought(
    sources: Mapping[str, Source], dest: str, record: str
) -> Generator[str | FileUploadCommand, None, None]:
    """
    Give a folder of the host the files of this machine, and remove those brought earlier.

    Other files of the folder stay as they are. Each file is replaced in one step, and has the time
    of its arrival: systemd and Airflow look for files that are newer than those they have read.

    + sources: the files, or their text, by their path in the folder
    + dest: the folder
    + record: file on the host that lists the files that were brought
    """
    listed = checksums(sources)
    variables = {
        "dest": dest,
        "record": record,
        "wanted": hashlib.sha256(listed.encode()).hexdigest() if sources else "",
    }
    verdict = host.get_fact(
        Output,
        script=f"if ( {_folder('check', variables)}\n) >/dev/null 2>&1; then echo yes; fi",
    )
    if verdict == "yes":
        host.noop(f"{dest} has the files")
        return
    yield FileUploadCommand(_archive(sources, dest), f"{record}.tar")
    yield FileUploadCommand(BytesIO(listed.encode()), f"{record}.new")
    yield _folder("apply", variables)


def _folder(action: str, variables: Mapping[str, str]) -> str:
    """The program that compares or changes a folder; it comes with its variables, since none of the
    deploy's programs is on the host before it ran."""
    top = {"action": action, **variables}
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in top.items())
    return assignments + FOLDER_PROGRAM.read_text()


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


@operation()
def pinned_file(
    download: Download, dest: str, offline_dir: str | None, member: str | None = None
) -> Generator[str, None, None]:
    """
    Put a program in place whose checksum is known, from the internet or the offline folder.

    Nothing is put in place whose checksum differs. A program out of an archive is known by the
    archive's checksum, kept beside it.

    + download: the file and its checksum; from an offline folder, SHA256SUMS has the checksum
    + dest: path on the host
    + offline_dir: folder on the host to take the file from instead
    + member: the program's name in the archive that the file is
    """
    sha256 = download.sha256
    if offline_dir:
        sums = shlex.quote(f"{offline_dir}/SHA256SUMS")
        sha256 = host.get_fact(
            Output, script=f"awk '$2 ~ /^[*]?{download.file}$/ {{print $1}}' {sums}"
        )
    record = f"{dest}.sha256"
    present = (
        host.get_fact(Output, script=f"test -x {dest} && cat {record} 2>/dev/null; true")
        if member
        else host.get_fact(Sha256File, path=dest)
    )
    if sha256 and present == sha256:
        host.noop(f"{dest} has the right checksum")
        return
    fetch = (
        f"cp {shlex.quote(f'{offline_dir}/{download.file}')} {dest}.new"
        if offline_dir
        else f"curl -fsSL --retry 3 -o {dest}.new {download.url}"
    )
    yield fetch
    damaged = _fail(
        f"{download.file} does not have the pinned checksum {sha256}; it was not installed"
    )
    checks = f"echo '{sha256}  {dest}.new' | sha256sum --check --status"
    yield f"{checks} || {{ rm {dest}.new; {damaged}; }}"
    if member:
        yield f"tar -xzOf {dest}.new {member} > {dest}.part && mv {dest}.part {dest}.new"
    yield f"chmod 755 {dest}.new && mv {dest}.new {dest}"
    if member:
        yield f"echo {sha256} > {record}"


def _fail(message: str) -> str:
    """Shell command that says what is wrong and fails."""
    return f"{{ echo {shlex.quote(message)} >&2; exit 1; }}"


# Begins a command. One that a killed deploy left behind goes on, though its connection is gone, and
# might be at the same work: it is waited for.
ALONE = f"""exec 8>>{BUSY}
flock -w {MAX_WAIT} 8 || {_fail("a command of an earlier deploy still runs: look at ps -ef")}
"""
