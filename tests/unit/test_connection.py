"""The connection to a host."""

from __future__ import annotations

import os
import socket
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paramiko import SSHException
from pyinfra.api import DeployError, FileUploadCommand, StringCommand
from pyinfra.api.state import State
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.context import ctx_host

from tasks.lib import connection
from tests.unit import fake


def disable_nagle(connector: object) -> None:
    """For a host with this connector."""
    with ctx_host.use(SimpleNamespace(connector=connector)):
        connection.disable_nagle()


class Stranger(SimpleNamespace):
    """A host that is asked one thing."""

    def get_fact(self, fact: object, command: str, **arguments: Any) -> str:
        """The answer of a shell of this machine, for the user who logs in."""
        assert arguments == {"_sudo": False, "_doas": False, "_dzdo": False, "_su_user": None}
        return subprocess.check_output(["sh", "-c", command], text=True, env=self.env).strip()


class Connector(SimpleNamespace):
    """A connection over SSH to this machine."""

    def run_shell_command(self, command: StringCommand) -> None:
        """As the user who logs in."""
        if not self.client:
            raise SSHException("SSH session not active")
        subprocess.run(["sh", "-c", command.get_raw_value()], check=True)

    def disconnect(self) -> None:
        """Close it."""
        self.client = None

    def get_file_transfer_connection(self) -> None:
        """It takes files."""


def test_uploads_go_through_a_folder_of_the_login(tmp_path: Path) -> None:
    here = SimpleNamespace()
    path = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    runtime = tmp_path.with_name(f"{tmp_path.name}-runtime")
    runtime.mkdir()
    open_, lost = Connector(client=object()), Connector(client=object())
    for connector, env, expected in (
        (open_, {**path, "XDG_RUNTIME_DIR": str(runtime)}, str(runtime)),
        (open_, {**path, "XDG_RUNTIME_DIR": "/no/such/folder"}, f"{tmp_path}/tmp.*"),
        (lost, path, f"{tmp_path}/tmp.*"),
        (here, path, "nothing"),
    ):
        host = Stranger(connector=connector, env=env, data=SimpleNamespace(_temp_dir="nothing"))
        with ctx_host.use(host):
            connection.use_private_folder()
        assert fnmatch(host.data._temp_dir, expected)
    assert [made.stat().st_mode & 0o777 for made in tmp_path.iterdir()] == [0o700, 0o700]
    lost.client = None
    lost.disconnect()
    assert len([*tmp_path.iterdir()]) == 2, "nobody could remove it"
    open_.disconnect()
    assert len([*tmp_path.iterdir()]) == 1 and runtime.exists()


def test_a_login_that_prints_is_refused(tmp_path: Path) -> None:
    """bash reads ~/.bashrc for each command that comes by SSH."""

    class Talker(Stranger):
        def get_fact(self, fact: object, command: str, **arguments: Any) -> str:
            return f"Welcome\x1b[2J!\n{super().get_fact(fact, command, **arguments)}"

    host = Talker(name="web", connector=Connector(client=object()), env=dict(os.environ), data=None)
    with ctx_host.use(host), pytest.raises(DeployError, match="Welcome") as refused:
        connection.use_private_folder()
    assert "~/.bashrc" in str(refused.value) and "\x1b" not in str(refused.value)


@pytest.mark.parametrize("protocol", ["sftp", "ftp", "scp"])
def test_a_server_that_takes_no_files_is_refused(protocol: str, tmp_path: Path) -> None:
    """By pyinfra's own connector: one without the subsystem closes the channel."""

    def open_channel(*_: object, **__: object) -> None:
        raise SSHException("Channel closed.")

    transport = SimpleNamespace(open_session=open_channel)
    web: Any = SimpleNamespace(name="web", data={"ssh_file_transfer_protocol": protocol})
    connector: Any = SSHConnector(State(), web)
    connector.client = SimpleNamespace(get_transport=lambda: transport)
    env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)}
    host = Stranger(name="web", connector=connector, env=env, data=SimpleNamespace())
    with ctx_host.use(host):
        if protocol == "scp":
            connection.use_private_folder()
            return
        with pytest.raises(DeployError) as refused:
            connection.use_private_folder()
    why = "Channel closed." if protocol == "sftp" else "Unsupported file transfer protocol: ftp"
    assert f"({why})" in str(refused.value)
    assert '"ssh_file_transfer_protocol": "scp"' in str(refused.value)


def test_every_upload_goes_through_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr(FileUploadCommand, "__init__", remember(seen))
    uncached = fake.settings({"dags_local_folder": str(fake.FILES / "opt/airflow/dags")})
    monkeypatch.setitem(fake.BARE_HOST_DATA, "_temp_dir", "/run/user/17")
    fake.plan(uncached)
    assert seen and all(str(each).startswith("/run/user/17/pyinfra-") for each in seen)


def remember(seen: list[str | None]) -> Any:
    """A constructor of uploads that notes the places through which they go."""
    make = FileUploadCommand.__init__

    def noted(self: FileUploadCommand, *given: Any, **named: Any) -> None:
        make(self, *given, **named)
        seen.append(self.remote_temp_filename)

    return noted


def test_packets_are_not_held_back() -> None:
    with socket.socket() as sock:
        transport = SimpleNamespace(sock=sock)
        disable_nagle(SimpleNamespace(client=SimpleNamespace(get_transport=lambda: transport)))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


class Pipe:
    """Both ends of a program that carries the connection, as ProxyCommand has it."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a pipe has no {name}")


@pytest.mark.parametrize(
    "connector",
    [
        SimpleNamespace(),  # this machine itself
        SimpleNamespace(client=None),
        SimpleNamespace(client=SimpleNamespace(get_transport=lambda: SimpleNamespace(sock=Pipe()))),
    ],
)
def test_where_there_is_no_tcp_nothing_is_asked_of_the_connection(connector: object) -> None:
    disable_nagle(connector)  # a missing attribute raises
