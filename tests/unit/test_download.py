"""The program that installs programs from the internet or the offline folder."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.unit.stand_ins import Host

PROGRAM = b"#!/bin/sh\necho hello\n"
FILES = [("program", ()), ("program.tar.gz", ("program",))]  # each with its member
SOURCES = ["internet", "offline folder"]


def sha256(content: bytes) -> str:
    """Checksum as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host."""
    return Host(tmp_path)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """The place of the program."""
    (tmp_path / "usr").mkdir()
    return tmp_path / "usr/program"


@pytest.fixture
def offline(tmp_path: Path) -> Path:
    """An offline folder with a program, an archive of it, and their checksums."""
    folder = tmp_path / "offline"
    folder.mkdir()
    (folder / "program").write_bytes(PROGRAM)
    with tarfile.open(folder / "program.tar.gz", "w:gz") as archive:
        for name, content in (("LICENSE", b"free\n"), ("program", PROGRAM)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    sums = (f"{sha256(path.read_bytes())}  {path.name}\n" for path in sorted(folder.iterdir()))
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def arguments(
    host: Host, source: str, offline: Path, dest: Path, name: str = "program"
) -> tuple[str, ...]:
    """The program and its arguments for a file that curl fetches, or from the offline folder."""
    path = offline / name
    if source == "internet":  # from a server that needs no network
        return ("download.sh", str(dest), f"file://{path}", sha256(path.read_bytes()))
    # Its checksum is not the official one.
    host.values["OFFLINE_DIR"] = str(offline)
    host.program("curl", "exit 1")
    return ("download.sh", str(dest), f"https://example.invalid/{name}", "0" * 64)


def assert_installed(dest: Path) -> None:
    """The program is there, complete, and can be run."""
    assert dest.read_bytes() == PROGRAM
    assert dest.stat().st_mode & 0o7777 == 0o755
    assert subprocess.check_output([dest], text=True) == "hello\n"


@pytest.mark.parametrize("words", [(), ("check", "a"), ("make", "a", "b", "c")])
def test_a_wrong_call_shows_the_usage(words: tuple[str, ...], host: Host) -> None:
    done = host.run("download.sh", *words)
    assert done.returncode == 2 and done.stderr.startswith("usage: download.sh")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("name", "member"), FILES)
def test_a_program_is_installed_once(
    source: str, name: str, member: tuple[str, ...], host: Host, offline: Path, dest: Path
) -> None:
    call = (*arguments(host, source, offline, dest, name), *member)
    assert "does not come from" in host.check(*call)
    assert host.apply(*call) == host.check(*call) == ""
    assert_installed(dest)
    record = {dest.with_name("program.sha256")} if member else set()
    assert set(dest.parent.iterdir()) == {dest} | record
    assert host.called("curl") == []


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("name", "member"), FILES)
def test_a_wrong_checksum_leaves_the_old_file_in_place(
    source: str, name: str, member: tuple[str, ...], host: Host, offline: Path, dest: Path
) -> None:
    dest.write_text("old\n")
    call = (*arguments(host, source, offline, dest, name), *member)
    (offline / name).write_bytes(PROGRAM + b"tampered with\n")
    assert f"{name} does not have the pinned checksum" in host.apply(*call)
    assert dest.read_text() == "old\n"
    assert not Path(f"{dest}.new").exists()
    assert host.check(*call) != ""


@pytest.mark.parametrize(("name", "member"), FILES)
def test_a_file_without_checksum_is_not_installed(
    name: str, member: tuple[str, ...], host: Host, offline: Path, dest: Path
) -> None:
    (offline / "SHA256SUMS").write_text(f"{'0' * 64}  another-{name}\n")
    call = (*arguments(host, "offline folder", offline, dest, name), *member)
    assert host.check(*call) != ""
    assert host.apply(*call) != ""
    assert not dest.exists()


def test_the_list_may_mark_a_binary_file(host: Host, offline: Path, dest: Path) -> None:
    sums = offline / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("  program", " *program"))
    call = arguments(host, "offline folder", offline, dest)
    assert host.apply(*call) == host.check(*call) == ""


def test_a_file_that_cannot_be_fetched_is_not_installed(
    host: Host, offline: Path, dest: Path
) -> None:
    call = arguments(host, "internet", offline, dest)
    (offline / "program").unlink()
    assert host.apply(*call) != ""
    assert not dest.exists()


def test_a_changed_file_is_replaced(host: Host, offline: Path, dest: Path) -> None:
    dest.write_text("changed by hand\n")
    call = arguments(host, "internet", offline, dest)
    assert host.check(*call) != "" and host.apply(*call) == ""
    assert_installed(dest)


def test_a_new_version_of_an_archive_is_installed(host: Host, offline: Path, dest: Path) -> None:
    dest.write_text("old version\n")
    dest.chmod(0o755)
    dest.with_name("program.sha256").write_text("0" * 64 + "\n")
    call = (*arguments(host, "internet", offline, dest, "program.tar.gz"), "program")
    assert host.check(*call) != "" and host.apply(*call) == ""
    assert_installed(dest)


def test_a_changed_member_is_installed_again(host: Host, offline: Path, dest: Path) -> None:
    call = (*arguments(host, "internet", offline, dest, "program.tar.gz"), "program")
    assert host.apply(*call) == ""
    with dest.open("ab") as program:
        program.write(b"echo changed\n")
    assert host.check(*call) != "" and host.apply(*call) == ""
    assert_installed(dest)


def test_a_program_that_may_not_be_run_is_installed_again(
    host: Host, offline: Path, dest: Path
) -> None:
    call = arguments(host, "internet", offline, dest)
    assert host.apply(*call) == ""
    dest.chmod(0o644)
    assert host.check(*call) != "" and host.apply(*call) == ""
    assert_installed(dest)


def test_a_lost_member_is_installed_again(host: Host, offline: Path, dest: Path) -> None:
    call = (*arguments(host, "internet", offline, dest, "program.tar.gz"), "program")
    assert host.apply(*call) == ""
    dest.unlink()
    assert host.check(*call) != "" and host.apply(*call) == ""
    assert_installed(dest)
