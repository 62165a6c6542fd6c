"""The deploy's own operations: their plans, and the real effects of their shell code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pyinfra.api import Config

from tasks.airflow import config
from tasks.lib import operations
from tasks.lib.operations import (
    PACKAGES_PROGRAM,
    packages,
    run_unless,
    secret_file,
    synced_folder,
)
from tests.support import wait_for
from tests.unit import fake

pytestmark = pytest.mark.usefixtures("busy")


# run_unless


@pytest.mark.parametrize(("answer", "expected"), [("yes", []), ("", ["make it", "record it"])])
def test_commands_run_only_if_the_test_fails(answer: str, expected: list[str]) -> None:
    planned = fake.commands(
        run_unless,
        {"state of affairs": answer},
        test="state of affairs",
        commands=["make it", "record it"],
        already="it is so",
    )
    assert planned == expected


@pytest.mark.parametrize(
    "test",
    [
        "true",
        "exit 0",
        "echo text; echo error >&2",
        "test -e /",
        '{ cat <<END\nit\'s a "text" with $HOME\nEND\n} | grep -q text',
        "for f in a b; do test $f = a || test $f = b || exit 1; done",
        "true # a comment at the end",
    ],
)
def test_a_test_that_succeeds_leaves_all_as_it_is(test: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    result = fake.run(run_unless, test=test, commands=[f"touch {made}"], already="it is so")
    assert result.did_succeed() and not result.did_change()
    assert not made.exists()


@pytest.mark.parametrize(
    "test",
    [
        "false",
        "exit 1",
        "for f in a b; do test $f = a || exit 1; done",
        "{ cat <<END\ntext\nEND\n} | grep -q other",
        "no-such-program-anywhere",
        "echo yes; false",
        "cd /no/such/folder && true",
    ],
)
def test_a_test_that_fails_has_the_commands_run(test: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    result = fake.run(run_unless, test=test, commands=[f"touch {made}"], already="it is so")
    assert result.did_change()
    assert made.exists()


def test_after_the_commands_there_is_nothing_to_do(tmp_path: Path) -> None:
    arguments = {
        "test": f"test -e {tmp_path}/made",
        "commands": [f"touch {tmp_path}/made"],
        "already": "it is there",
    }
    assert [fake.run(run_unless, **arguments).did_change() for _ in range(2)] == [True, False]


def test_a_command_that_fails_stops_the_operation(tmp_path: Path) -> None:
    commands = ["echo broken >&2; exit 1", f"touch {tmp_path}/made"]
    result = fake.run(run_unless, test="false", commands=commands, already="never")
    assert result.did_error() and "broken" in result.stderr
    assert not (tmp_path / "made").exists()


# Holds the lock until somebody waits for it: https://man7.org/linux/man-pages/man5/proc_locks.5.html
LEFT_BEHIND = """
exec 8>>"$1"
flock 8
touch "$1.held"
inode=$(stat -c %i "$1")
for i in $(seq 600); do
    grep -q -- "-> FLOCK .*:$inode " /proc/locks && break
    sleep 0.05
done
touch "$1.done"
"""


def test_a_command_waits_for_one_that_a_killed_deploy_left(tmp_path: Path, busy: Path) -> None:
    made, held, done = tmp_path / "made", Path(f"{busy}.held"), Path(f"{busy}.done")
    with subprocess.Popen(["sh", "-c", LEFT_BEHIND, "sh", str(busy)]) as left:
        wait_for(held.exists, 60, "the command of the killed deploy is at work", every=0.02)
        command = f"test -e {done} && touch {made}"
        fake.run(run_unless, test=f"test -e {made}", commands=[command], already="it is so")
        left.kill()
    assert made.exists()


# packages

DPKG = [
    "ii  git             1:2.39.5-0+deb12u2  amd64  fast version control system",
    "hi  libc6:amd64     2.36-9+deb12u10     amd64  GNU C Library",
    "rc  curl            7.88.1-10+deb12u12  amd64  removed, its configuration is left",
]


RECORD = "/var/lib/deploy/packages"


def installing(*names: str) -> list[str]:
    """The commands of the operation on a host with the packages above."""
    return fake.commands(packages, {"dpkg -l": DPKG}, packages=list(names), record=RECORD)


def test_installed_packages_need_no_apt() -> None:
    assert installing("git", "libc6") == []
    assert installing("no-such|git") == []  # another package of the same program is there
    (command,) = installing("no-such|neither")
    assert f"\nset -- {RECORD} no-such\n" in command


class Apt:
    """Stand-ins for apt-get and dpkg-query, and the effects of the program with their packages."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.record = folder / "bin", folder / "state/record"
        self.bin.mkdir()
        self.calls = folder / "calls"
        self.ipv6, self.nginx = folder / "if_inet6", folder / "nginx"
        self.ipv6.touch()

    def program(self, name: str, script: str) -> None:
        """Replace a program."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}")
        (self.bin / name).chmod(0o755)

    def install(
        self, before: str, after: str, apt: str = "", dpkg: str = "", package: str = "curl"
    ) -> int:
        """Install a package, while Debian's answer changes from one to the other; returns the
        status."""
        answer = self.bin.parent / "installed"
        answer.write_text(before)
        self.program("dpkg-query", f"cat {answer}")
        report = f'echo "$DEBIAN_FRONTEND $NEEDRESTART_SUSPEND" "$@" >> {self.calls}'
        self.program("dpkg", f'echo dpkg "$@" >> {self.calls}\n{dpkg}\n')
        self.program("sleep", f"echo sleep >> {self.calls}\n")
        self.program("apt-get", f"{report}\n{apt}\nprintf '{after}' > {answer}\necho noise\n")
        program = operations.with_arguments(PACKAGES_PROGRAM, [str(self.record), package])
        for path, here in {"/proc/net/if_inet6": self.ipv6, "/etc/nginx": self.nginx}.items():
            assert path in program
            program = program.replace(path, str(here))
        done = subprocess.run(
            ["sh", "-c", program],
            env={"PATH": f"{self.bin}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == ""
        self.said = done.stderr
        return done.returncode


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    """A host's apt."""
    return Apt(tmp_path)


def test_missing_packages_are_installed_after_a_refresh(apt: Apt) -> None:
    (command,) = installing("git", "curl", "socat")
    assert f"\nset -- {RECORD} curl socat\n" in command
    assert apt.install("", "ii  curl\n") == 0
    heal, update, install = (line.split() for line in apt.calls.read_text().splitlines())
    # A run that was cut off may have left packages half installed, with which apt does nothing.
    assert heal[0] == "dpkg" and heal[-2:] == ["--configure", "-a"]
    assert update[-2:] == ["update", "--error-on=any"]
    assert install[install.index("install") :] == [
        "install",
        "--yes",
        "--no-install-recommends",
        "--no-remove",
        "curl",
    ]
    for words in (update, install):
        # Nothing asks, no service restarts, and a person's configuration stays.
        assert words[:2] == ["noninteractive", "1"] and "DPkg::Lock::Timeout=900" in words
        assert "Dpkg::Options::=--force-confold" in words and "--force-confold" in heal


def test_packages_that_came_along_are_recorded_also_after_a_killed_run(apt: Apt) -> None:
    git, curl, lib = "ii  git\n", "ii  curl\n", "ii  libcurl4\n"
    # The first run was killed while apt was at work.
    kill = 'case "$*" in *install*) kill -KILL $PPID; exit 1 ;; esac'
    assert apt.install(git + "rc  curl\n", "", kill) != 0
    assert apt.install(git + lib + "iU  curl\n", git + lib + curl) == 0
    assert apt.record.read_text() == "curl\nlibcurl4\n"
    assert apt.install(git + lib + curl, git + lib + curl + "ii  jq\n") == 0
    assert apt.record.read_text() == "curl\nlibcurl4\njq\n"
    assert apt.record.parent.stat().st_mode & 0o777 == 0o700


def test_a_refresh_that_fails_stops_the_operation(apt: Apt) -> None:
    assert apt.install("", "", "echo no route to host >&2; exit 100") != 0
    assert apt.said == "no route to host\n"
    assert len(apt.calls.read_text().splitlines()) == 2


LOCKS = {
    "lists": "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt)",
    "archives": "E: Could not get lock /var/cache/apt/archives/lock. It is held by process 7 (apt)",
    "dpkg": "dpkg: error: dpkg frontend lock was locked by another process with pid 7",
}


@pytest.mark.parametrize("which", LOCKS)
def test_locks_of_others_are_waited_for(which: str, apt: Apt, tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    locked = f"test -e {tried} || {{ touch {tried}; echo '{LOCKS[which]}' >&2; exit 100; }}"
    stand_ins = {"dpkg": locked} if which == "dpkg" else {"apt": locked}
    assert apt.install("", "ii  curl\n", **stand_ins) == 0
    assert apt.calls.read_text().splitlines().count("sleep") == 1
    assert apt.said == ""


# What packages of nginx do while they are configured: nginx-common adds the site unless there is
# one of its name, and nginx starts, for which a site at [::] needs IPv6.
NGINX = """
case "$*" in *install*)
    cd {nginx} 2>/dev/null || mkdir -p {nginx}/sites-enabled
    cd {nginx} && mkdir -p sites-available && echo 'listen [::]:80;' > sites-available/default
    [ -e sites-enabled/default ] || ln -s {nginx}/sites-available/default sites-enabled/default
    test -e {ipv6} || ! grep -Fq '[::]' sites-enabled/default || exit 100 ;;
esac
"""


def test_nginx_is_installed_where_the_kernel_has_no_ipv6(apt: Apt) -> None:
    apt.ipv6.unlink()
    nginx = NGINX.format(nginx=apt.nginx, ipv6=apt.ipv6)
    site = apt.nginx / "sites-enabled/default"
    kill = 'case "$*" in *install*) kill -KILL $PPID; exit 1 ;; esac'
    assert apt.install("", "", kill, package="nginx") != 0
    assert apt.install("", "ii  nginx\n", nginx, package="nginx") == 0
    assert site.parent.exists() and not site.is_symlink() and not site.exists()
    # Where people have one of this name, it stays.
    site.write_text("listen 80;")
    assert apt.install("", "ii  nginx\n", nginx, package="nginx") == 0
    assert site.read_text() == "listen 80;"


def test_nginx_begins_as_debians_where_the_kernel_has_ipv6(apt: Apt) -> None:
    nginx = NGINX.format(nginx=apt.nginx, ipv6=apt.ipv6)
    assert apt.install("", "ii  nginx\n", nginx, package="nginx") == 0
    assert (apt.nginx / "sites-enabled/default").is_symlink()


def test_other_packages_leave_nginx_alone_where_the_kernel_has_no_ipv6(apt: Apt) -> None:
    apt.ipv6.unlink()
    assert apt.install("", "ii  curl\n") == 0
    assert not apt.nginx.exists()


# synced_folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A folder with files to bring, and the arguments that bring them to another one."""
    source, dest = tmp_path / "source", tmp_path / "dest"
    (source / "team").mkdir(parents=True)
    (source / "one.py").write_text("1")
    (source / "team/it's two.py").write_text("2")
    (source / "team/run.sh").write_text("#!/bin/sh")
    (source / "team/run.sh").chmod(0o755)
    dest.mkdir()
    (dest / "yours.py").write_text("yours")
    return dest, {"dest": str(dest), "record": str(tmp_path / "record")}


def in_folder(folder: Path) -> dict[str, str]:
    """The text of each file, by its path in the folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def files_of(folder: Path) -> dict[str, Path]:
    """All files of a folder, as the operation takes them."""
    return {name: folder / name for name in in_folder(folder)}


def test_files_are_brought_beside_others(folders: tuple[Path, dict[str, Any]]) -> None:
    dest, arguments = folders
    source = dest.parent / "source"
    assert fake.run(synced_folder, sources=files_of(source), **arguments).did_change()
    assert in_folder(dest) == in_folder(source) | {"yours.py": "yours"}
    assert oct((dest / "team/run.sh").stat().st_mode)[-3:] == "755"
    assert oct((dest / "one.py").stat().st_mode)[-3:] == "644"
    assert not fake.run(synced_folder, sources=files_of(source), **arguments).did_change()


def test_a_text_is_brought_too(folders: tuple[Path, dict[str, Any]]) -> None:
    dest, arguments = folders
    sources = {"unit.d/one.conf": "one", "two.sh": dest.parent / "source/team/run.sh"}
    assert fake.run(synced_folder, sources=sources, **arguments).did_change()
    assert in_folder(dest) == {
        **{"unit.d/one.conf": "one", "two.sh": "#!/bin/sh"},
        "yours.py": "yours",
    }
    assert oct((dest / "unit.d/one.conf").stat().st_mode)[-3:] == "644"
    assert not fake.run(synced_folder, sources=sources, **arguments).did_change()
    assert fake.run(
        synced_folder, sources={**sources, "unit.d/one.conf": "1"}, **arguments
    ).did_change()
    assert (dest / "unit.d/one.conf").read_text() == "1"


def test_a_brought_file_is_newer_than_the_one_before(
    folders: tuple[Path, dict[str, Any]],
) -> None:
    # systemd reads a unit again only if the file is newer than the one that it has read.
    dest, arguments = folders
    source = dest.parent / "source"
    fake.run(synced_folder, sources=files_of(source), **arguments)
    before = (dest / "one.py").stat().st_mtime_ns
    (source / "one.py").write_text("an older file, of another checkout")
    os.utime(source / "one.py", (1, 1))
    fake.run(synced_folder, sources=files_of(source), **arguments)
    assert (dest / "one.py").stat().st_mtime_ns > before


def test_a_file_that_the_source_no_longer_has_is_removed(
    folders: tuple[Path, dict[str, Any]],
) -> None:
    dest, arguments = folders
    sources = files_of(dest.parent / "source")
    fake.run(synced_folder, sources=sources, **arguments)
    assert fake.run(synced_folder, sources={"one.py": sources["one.py"]}, **arguments).did_change()
    assert in_folder(dest) == {"one.py": "1", "yours.py": "yours"}
    assert not (dest / "team").exists()
    assert fake.run(synced_folder, sources={}, **arguments).did_change()
    assert in_folder(dest) == {"yours.py": "yours"}
    assert not fake.run(synced_folder, sources={}, **arguments).did_change()


def test_a_file_of_a_person_keeps_the_name_that_others_have_on_their_way(
    folders: tuple[Path, dict[str, Any]],
) -> None:
    dest, arguments = folders
    (dest / "one.py.new").write_text("a person's")
    fake.run(synced_folder, sources=files_of(dest.parent / "source"), **arguments)
    assert (dest / "one.py.new").read_text() == "a person's"


def test_brought_files_get_the_group_of_their_folder(folders: tuple[Path, dict[str, Any]]) -> None:
    dest, arguments = folders
    os.chown(dest, 0, 65534)
    dest.chmod(0o2755)
    fake.run(synced_folder, sources=files_of(dest.parent / "source"), **arguments)
    assert (dest / "one.py").stat().st_gid == 65534


@pytest.mark.parametrize("harm", ["changed", "lost", "no program any more"])
def test_brought_files_are_put_back(folders: tuple[Path, dict[str, Any]], harm: str) -> None:
    dest, arguments = folders
    source = dest.parent / "source"
    fake.run(synced_folder, sources=files_of(source), **arguments)
    if harm == "changed":
        (dest / "one.py").write_text("by hand")
    elif harm == "lost":
        (dest / "one.py").unlink()
    else:
        (source / "team/run.sh").chmod(0o644)
    assert fake.run(synced_folder, sources=files_of(source), **arguments).did_change()
    assert in_folder(dest) == in_folder(source) | {"yours.py": "yours"}
    assert (dest / "team/run.sh").stat().st_mode == (source / "team/run.sh").stat().st_mode


@pytest.mark.parametrize("moved", [0, 1, 3])
def test_a_run_that_was_killed_leaves_nothing_behind(
    moved: int, folders: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if another run comes next: of three files, some have their place by then."""
    dest, arguments = folders
    sources = files_of(dest.parent / "source")
    calls, mv = dest.parent / "calls", dest.parent / "bin/mv"
    mv.parent.mkdir()
    mv.write_text(
        f'#!/bin/sh\necho >>{calls}\n[ "$(wc -l <{calls})" -le {moved} ] && exec /usr/bin/mv "$@"\n'
    )
    mv.chmod(0o755)
    with monkeypatch.context() as killed:
        killed.setenv("PATH", f"{mv.parent}:{os.environ['PATH']}")
        assert fake.run(synced_folder, sources=sources, **arguments).did_error()
    assert len(in_folder(dest)) == 4
    fake.run(synced_folder, sources={"one.py": sources["one.py"]}, **arguments)
    assert in_folder(dest) == {"one.py": "1", "yours.py": "yours"}


# secret_file


def test_a_secret_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    arguments: dict[str, Any] = {
        "path": str(path),
        "content": SecretStr('{"a": "quoted \' and $(not run)"}'),
    }
    first = fake.run(secret_file, **arguments)
    assert first.did_change() and path.read_text() == '{"a": "quoted \' and $(not run)"}\n'
    assert path.stat().st_mode & 0o777 == 0o600
    assert not fake.run(secret_file, **arguments).did_change()
    path.chmod(0o644)
    assert fake.run(secret_file, **arguments).did_change()
    assert path.stat().st_mode & 0o777 == 0o600
    os.chown(path, 0, 65534)
    assert fake.run(secret_file, **arguments).did_change()
    arguments["content"] = SecretStr("x" * 200_000)  # more than a pipe holds
    assert fake.run(secret_file, **arguments).did_change()
    assert not fake.run(secret_file, **arguments).did_change()


def test_a_secret_file_is_closed_from_its_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write, move = fake.commands(secret_file, {}, path=str(path), content=SecretStr("hidden"))
    # Others see the file already while its content is still on the way.
    with subprocess.Popen(["sh", "-c", write], stdin=subprocess.PIPE, text=True) as writer:
        wait_for(lambda: list(tmp_path.glob("secret*")), 60, "the file is made", every=0.02)
        (made,) = tmp_path.glob("secret*")
        assert made.stat().st_mode & 0o777 == 0o600
        writer.communicate("hidden\n")
    assert writer.returncode == 0
    subprocess.run(["sh", "-c", move], check=True)
    assert path.read_text() == "hidden\n" and path.stat().st_mode & 0o777 == 0o600


def test_a_secret_file_may_be_for_a_group(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    arguments: dict[str, Any] = {"path": str(path), "content": SecretStr("a"), "group": "nogroup"}
    assert fake.run(secret_file, **arguments, mode="640").did_change()
    assert (path.group(), path.stat().st_mode & 0o777) == ("nogroup", 0o640)
    assert not fake.run(secret_file, **arguments, mode="640").did_change()
    assert fake.run(secret_file, **arguments, mode="600").did_change()


def test_a_diff_shows_a_secret_file_only_as_it_may_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fake, "Config", lambda: Config(DIFF=True))
    caplog.set_level("INFO")
    path = tmp_path / "airflow.cfg"
    cfg = "[smtp]\nsmtp_host = {}\nsmtp_password = {}\n    and-{}\nbroker = amqp://ada:{}@mq.example\n"
    for host, secret in (("one.example", "s3cret"), ("two.example", "hidden")):
        content = SecretStr(cfg.format(host, secret, secret, secret))
        fake.run(secret_file, path=str(path), content=content, redacted=config.redacted)
    assert path.read_text() == content.get_secret_value()
    said = caplog.text
    assert "one.example" in said and "two.example" in said and "mq.example" in said
    assert "s3cret" not in said and "hidden" not in said
    caplog.clear()
    fake.run(secret_file, path=str(path), content=SecretStr("s3cret"))
    assert "hidden" not in caplog.text and "s3cret" not in caplog.text
