"""A PostgreSQL of the tests' own, in a temporary folder, reached over its socket."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support import wait_for

# Debian's; it starts for nobody but an ordinary user.
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
NOBODY = 65534


class Server:
    """One that runs."""

    def __init__(self, folder: Path, port: int = 5432) -> None:
        self.folder = folder
        self.port = port

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead psql to it."""
        return {
            "PATH": f"{PROGRAMS[-1]}:/usr/bin:/bin",
            "PGHOST": str(self.folder),
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
        }

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run statements; returns their output."""
        done = subprocess.run(
            ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", database],
            env=self.environment,
            input=text,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def reload(self) -> None:
        """Let it read its configuration; returns when this applies to new connections."""
        asks = "select pg_conf_load_time()"
        before = self.sql(f"{asks}; select where not pg_reload_conf()")
        wait_for(lambda: self.sql(asks) != before, 60, "it reads its configuration", every=0.02)

    def setpriv(self) -> str:
        """A stand-in for setpriv, with which a program asks it as the role of a Linux user."""
        export = " ".join(f"{name}={value}" for name, value in self.environment.items())
        return f'export {export}\nuser=${{1#*=}}; shift 3\nPGUSER=$user exec "$@"'


@functools.cache
def _new(user: int | None) -> tempfile.TemporaryDirectory[str]:
    """The folder of a cluster as initdb makes it; a copy of it costs a tenth. It goes with us."""
    folder = tempfile.TemporaryDirectory()
    if user:
        os.chown(folder.name, user, user)
    initdb = [f"{PROGRAMS[-1]}/initdb", "--no-sync", "--auth=trust", "--username=postgres"]
    subprocess.run(
        [*initdb, "--encoding=UTF8", "--locale=C", f"--pgdata={folder.name}"],
        user=user,
        cwd=folder.name,
        check=True,
        capture_output=True,
    )
    return folder


@contextmanager
def server(port: int | None = None, pair: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start one; it ends with the tests. With a port, it also listens on 127.0.0.1, and with the
    certificate and the key of a pair it speaks TLS."""
    assert PROGRAMS, "these tests need PostgreSQL's programs: apt install postgresql"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        user = None
        if os.getuid() == 0:
            user = NOBODY
            os.chown(folder, NOBODY, NOBODY)
        data, log = folder / "data", folder / "log"
        subprocess.run(["cp", "--archive", "--reflink=auto", _new(user).name, data], check=True)
        options = ["-F", "-k", name, "-c", "listen_addresses=", "-c", "shared_buffers=8MB"]
        if port:
            options += ["-p", str(port), "-c", "listen_addresses=127.0.0.1"]
        if pair:
            for kind, text in pair.items():
                path = folder / kind
                path.write_text(text)
                path.chmod(0o600)
                if user:
                    os.chown(path, user, user)
            options += ["-c", "ssl=on", "-c", f"ssl_cert_file={folder}/certificate"]
            options += ["-c", f"ssl_key_file={folder}/key"]
        with log.open("w") as said:
            running = subprocess.Popen(
                [PROGRAMS[-1] / "postgres", "-D", data, *options],
                user=user,
                cwd=folder,
                stdout=said,
                stderr=said,
            )
        try:
            ready = [f"{PROGRAMS[-1]}/pg_isready", "-q", "-h", name, "-p", str(port or 5432)]
            wait_for(
                lambda: subprocess.run(ready).returncode == 0, 60, "PostgreSQL starts", every=0.05
            )
            yield Server(folder, port or 5432)
        finally:
            running.send_signal(signal.SIGINT)  # it does not wait for its clients
            running.wait(60)
            shutil.rmtree(data, ignore_errors=True)


@contextmanager
def with_exporter() -> Iterator[Server]:
    """One with a database of Airflow, and the exporter's role."""
    with server() as running:
        running.sql("create role airflow login; create role prometheus")
        running.sql("create database airflow owner airflow")
        yield running
