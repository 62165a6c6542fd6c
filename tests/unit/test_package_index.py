"""Python packages from an index of one's own, with real uv and pip and a server of this machine."""

from __future__ import annotations

import base64
import hashlib
import io
import ipaddress
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import TypeAdapter

from tasks import layout
from tasks.settings.types import RequirementsLock
from tests.unit import fake
from tests.unit.stand_ins import Host

LOGIN = ("deploy", "s3cret-Word!")
# An sdist's own build backend, which needs no compiler.
BACKEND = """
import maker

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "built_here-1.0-py3-none-any.whl"
    with open(f"{folder}/{name}", "wb") as wheel:
        wheel.write(bytes.fromhex("@WHEEL@"))
    return name
"""


def wheel(name: str, version: str = "1.0", text: str = "") -> bytes:
    """A wheel with one module."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{name}.py", text)
        info = f"{name}-{version}.dist-info"
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return content.getvalue()


def sdist() -> bytes:
    """A package that has only its source."""
    system = '[build-system]\nrequires = ["maker"]\n'
    system += 'build-backend = "backend"\nbackend-path = ["."]\n'
    project = '[project]\nname = "built-here"\nversion = "1.0"\n'
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in {
            "pyproject.toml": system + project,
            "backend.py": BACKEND.replace("@WHEEL@", wheel("built_here").hex()),
            "PKG-INFO": "Metadata-Version: 2.1\nName: built-here\nVersion: 1.0\n",
        }.items():
            entry = tarfile.TarInfo(f"built_here-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


# The files of each package, by its name and a word more.
FILES = {
    "locked": ("locked-1.0-py3-none-any.whl", wheel("locked")),
    "inner": ("inner-1.0-py3-none-any.whl", wheel("inner")),
    "maker": ("maker-1.0-py3-none-any.whl", wheel("maker")),
    "built-here": ("built_here-1.0.tar.gz", sdist()),
}


class Index(BaseHTTPRequestHandler):
    """A simple repository, PEP 503, which asks for a login."""

    def do_GET(self) -> None:
        """Answer with a page of links, or with a file."""
        given = base64.b64encode(":".join(LOGIN).encode()).decode()
        if self.headers.get("Authorization") != f"Basic {given}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.end_headers()
            return
        last = self.path.strip("/").rpartition("/")[2]
        body = next((data for name, data in FILES.values() if name == last), b"")
        kind = "application/zip"
        if names := [name for key, (name, _) in FILES.items() if key.split()[0] == last]:
            body = "".join(f'<a href="/files/{name}">{name}</a>' for name in names).encode()
            kind = "text/html"
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Served(NamedTuple):
    """A running index: its address, and the certificate that it shows."""

    url: str
    certificate: str


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey
) -> bytes:
    """A certificate for this machine, or of the authority itself, as PEM."""
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    subject, by = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in (name, issuer)
    )
    builder = x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1))
    builder = builder.not_valid_after(now + timedelta(days=2))
    builder = builder.add_extension(x509.BasicConstraints(name == issuer, None), critical=True)
    names = [address, x509.DNSName("localhost")]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An index with TLS and a login, whose certificate nobody trusts by itself."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ours = certificate("authority", authority, "authority", authority)
    theirs = certificate("index", key, "authority", authority)
    file = tmp_path_factory.mktemp("index") / "server.pem"
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(theirs + key.private_bytes(serialization.Encoding.PEM, *form))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Served(f"https://127.0.0.1:{server.server_port}/simple", ours.decode())
    server.shutdown()


def given(index: Served) -> dict[str, Any]:
    """The settings for this index."""
    login = {"username": LOGIN[0], "password": LOGIN[1]}
    return {
        "build_indexes": {"company": {"url": index.url, "default": True, **login}},
        "build_ca_certificate": index.certificate,
    }


@pytest.fixture
def host(tmp_path: Path, index: Served, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with the files that the deploy writes for this index, and with uv."""
    monkeypatch.setenv("HOME", str(tmp_path))  # no cache and no configuration of this machine
    plan = fake.plan(fake.settings(given(index)))
    host = Host(tmp_path, given(index))
    for name in ("PACKAGE_INDEXES", "PACKAGE_AUTHORITY"):
        path = tmp_path / name
        path.write_text(plan.uploads[host.values[name]])
        host.values[name] = str(path)
    indexes = tmp_path / "PACKAGE_INDEXES"
    indexes.write_text(f'cache-dir = "{tmp_path}/.cache"\n{indexes.read_text()}')
    (logins,) = plan.named("Write the logins of the package indexes").inputs[:1]
    (tmp_path / "netrc").write_text(logins)
    host.values |= {"PACKAGE_LOGINS": str(tmp_path / "netrc"), "UV": str(tmp_path / "uv")}
    host.values["EXTRA_LOCK"] = str(tmp_path / "extra.txt")
    (tmp_path / "uv/bin").mkdir(parents=True)
    program = shutil.which("uv")
    assert program, "run the tests with uv"
    (tmp_path / "uv/bin/uv").symlink_to(program)
    sums = hashlib.sha256(FILES["locked"][1]).hexdigest()
    (tmp_path / "lock.txt").write_text(f"locked==1.0 --hash=sha256:{sums}\n")
    return host


def install(host: Host, *more: str) -> subprocess.CompletedProcess[str]:
    """Install the lock and more requirements into a virtual environment."""
    venv, lock = host.folder / "venv", host.folder / "lock.txt"
    return host.run("venv.sh", "apply", str(venv), sys.executable, str(lock), *more)


def installed(host: Host) -> set[str]:
    """The modules of the virtual environment."""
    return {path.stem for path in host.folder.glob("venv/lib/python3*/site-packages/*.py")}


def test_the_lock_and_more_come_from_the_index(host: Host) -> None:
    done = install(host, "inner")
    assert done.returncode == 0, done.stderr
    assert {"locked", "inner"} <= installed(host)
    assert LOGIN[1] not in done.stdout + done.stderr


def again(host: Host, *more: str) -> subprocess.CompletedProcess[str]:
    """Install all of it once more, on a host whose cache is lost."""
    for path in ("venv", ".cache"):
        shutil.rmtree(host.folder / path, ignore_errors=True)
    return install(host, *more)


def version(host: Host) -> str:
    """The version of the package inner that is installed."""
    (found,) = host.folder.glob("venv/lib/python3*/site-packages/inner-*.dist-info")
    return found.name.removeprefix("inner-").removesuffix(".dist-info")


def test_what_the_inventory_adds_is_locked_when_it_was_installed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install(host, "inner").returncode == 0
    lock = host.folder / "extra.txt"
    locked = lock.read_text()
    assert "inner==1.0" in locked and hashlib.sha256(FILES["inner"][1]).hexdigest() in locked
    assert f"\n# For {host.folder}/venv\n" in locked
    monkeypatch.setitem(
        FILES, "inner 2", ("inner-2.0-py3-none-any.whl", wheel("inner", version="2.0"))
    )
    assert again(host, "inner").returncode == 0 and version(host) == "1.0"
    assert lock.read_text() == locked
    # Other requirements, which are another venv, keep what is not against them.
    other = locked.replace(f"{host.folder}/venv", "/opt/airflow/venvs/other")
    lock.write_text(other)
    assert again(host, "inner", "locked").returncode == 0 and version(host) == "1.0"
    lock.write_text(other)
    assert again(host, "inner>=2").returncode == 0 and version(host) == "2.0"
    assert "inner==2.0" in lock.read_text()
    lock.unlink()
    assert again(host, "inner").returncode == 0 and version(host) == "2.0"
    assert {path.name for path in host.folder.glob("extra*")} == {"extra.txt"}


def test_another_file_under_a_locked_version_is_refused(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: somebody replaces a file of the index."""
    assert install(host, "inner").returncode == 0
    name, _ = FILES["inner"]
    monkeypatch.setitem(FILES, "inner", (name, wheel("inner", text="import evil\n")))
    done = again(host, "inner")
    assert done.returncode == 1 and "inner" not in installed(host)
    assert "Hash mismatch" in done.stderr


def test_a_failure_locks_nothing(host: Host) -> None:
    assert install(host, "inner", "locked>=2").returncode == 1
    assert not (host.folder / "extra.txt").exists()


def test_without_the_authority_nothing_is_taken(host: Host) -> None:
    host.values["PACKAGE_AUTHORITY"] = ""
    assert install(host).returncode != 0 and "locked" not in installed(host)


def test_without_the_login_nothing_is_taken(host: Host) -> None:
    host.values["PACKAGE_LOGINS"] = str(host.folder / "none")
    assert install(host).returncode != 0 and "locked" not in installed(host)


def test_root_may_have_logins_for_the_urls_of_requirements(host: Host, index: Served) -> None:
    """As the settings advise. Those of the inventory win, and no copy is left."""
    file, _ = FILES["inner"]
    url = index.url.replace("127.0.0.1", "localhost").replace("simple", f"files/{file}")
    assert install(host, f"inner @ {url}").returncode != 0
    theirs = "machine 127.0.0.1 login other password other machine localhost login {} password {}"
    (host.folder / ".netrc").write_text(theirs.format(*LOGIN))
    temporary = host.folder / "temporary"
    temporary.mkdir()
    host.values |= {"HOME": str(host.folder), "TEMPORARY": str(temporary)}
    done = install(host, f"inner @ {url}")
    assert done.returncode == 0, done.stderr
    assert {"locked", "inner"} <= installed(host)
    assert LOGIN[1] not in done.stdout + done.stderr
    assert [path.name for path in temporary.iterdir()] == []


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (b"machine a login b password c\nmachine d login e password two words\n", "line "),
        (b"<<<<<<< HEAD\n", "line 1, or"),
        (b"machine a login b password \xe9\n", "it is not UTF-8"),
        (b"# nothing\n", ""),
    ],
)
def test_a_broken_file_of_root_hides_no_login_of_the_inventory(
    theirs: bytes, said: str, host: Host
) -> None:
    (host.folder / ".netrc").write_bytes(theirs)
    host.values |= {"HOME": str(host.folder)}
    done = install(host, "inner")
    assert done.returncode == 0, done.stderr
    assert {"locked", "inner"} <= installed(host)
    assert (f"{host.folder}/.netrc is left out: {said}" in done.stderr) is bool(said)
    assert "words" not in done.stderr


def test_a_package_without_a_wheel_is_built_only_where_settings_say_so(host: Host) -> None:
    done = install(host, "built-here")
    assert done.returncode == 1 and "built_here" not in installed(host)
    (*_, last) = done.stderr.splitlines()
    assert last.startswith("airflow_extra_requirements: ") and "build_apt_packages" in last
    host.values["BUILDS_PACKAGES"] = "yes"
    done = install(host, "built-here")
    assert done.returncode == 0, done.stderr
    assert "built_here" in installed(host)


def builds(host: Host, monkeypatch: pytest.MonkeyPatch) -> str:
    """Build a package for the first time; returns the lock. Then the index has a newer tool."""
    host.values["BUILDS_PACKAGES"] = "yes"
    done = install(host, "built-here")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    newer = ("maker-2.0-py3-none-any.whl", wheel("maker", version="2.0"))
    monkeypatch.setitem(FILES, "maker 2", newer)
    return (host.folder / "extra.txt").read_text()


def built_with(key: str, version: str) -> str:
    """The line of a lock for the tool."""
    return (
        f"# built with: maker=={version} --hash=sha256:{hashlib.sha256(FILES[key][1]).hexdigest()}"
    )


def test_the_tools_that_build_packages_are_locked(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = builds(host, monkeypatch)
    assert built_with("maker", "1.0") in locked.splitlines()
    # Another host may get it: it is one that a setting accepts.
    TypeAdapter(RequirementsLock).validate_python(locked)
    # The newer one would end a build.
    other = wheel("maker", text="raise SystemExit('another maker')\n")
    monkeypatch.setitem(FILES, "maker 2", ("maker-2.0-py3-none-any.whl", other))
    assert again(host, "built-here").returncode == 0
    assert (host.folder / "extra.txt").read_text() == locked
    assert {path.name for path in host.folder.glob("extra*")} == {"extra.txt"}


def test_another_file_of_a_build_tool_is_refused(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: code of a build tool runs as root."""
    builds(host, monkeypatch)
    name, _ = FILES["maker"]
    monkeypatch.setitem(FILES, "maker", (name, wheel("maker", text="import evil\n")))
    done = again(host, "built-here")
    assert done.returncode == 1 and "Hash mismatch for `maker==1.0`" in done.stderr
    assert "DEBUG" not in done.stderr


def test_other_requirements_lock_their_own_tools(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = builds(host, monkeypatch).replace(f"{host.folder}/venv", "/opt/airflow/venvs/other")
    (host.folder / "extra.txt").write_text(locked)
    assert again(host, "built-here", "inner").returncode == 0
    lines = (host.folder / "extra.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("# built with")] == [
        built_with("maker 2", "2.0")
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # uv had all in its cache.
        ("", ["other==3.0"]),
        (
            "DEBUG Installing build requirements: inner==1.0, maker==1.0\n",
            ["inner==1.0", "maker==1.0", "other==3.0"],
        ),
        # Two packages want two versions of a tool, which no constraint allows.
        (
            "DEBUG Installing build requirement: other==2.0\n"
            "DEBUG Installing build requirement: other==3.0\n",
            [],
        ),
    ],
)
def test_tools_of_what_was_built_before_stay(said: str, expected: list[str], host: Host) -> None:
    log, lock = host.folder / "log", host.folder / "extra.txt"
    log.write_text(said)
    lock.write_text("# built with: other==3.0 --hash=sha256:0\nx==1 \\\n    --hash=sha256:1\n")
    done = host.run("build-tools.sh", "learn", str(log), str(lock), sys.executable)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [
        line.removeprefix("# built with: ").split(" --hash=") for line in done.stdout.splitlines()
    ]
    assert [line[0] for line in lines] == expected
    for name, *sums in (line for line in lines if line[0] != "other==3.0"):
        assert sums == [f"sha256:{hashlib.sha256(FILES[name[:-5]][1]).hexdigest()}"]


def test_pip_which_installs_uv_has_the_same_index(host: Host) -> None:
    folder = host.folder / "requirements"
    folder.mkdir()
    (folder / "uv.txt").write_text((host.folder / "lock.txt").read_text())
    host.values |= {"REQUIREMENTS": str(folder), "UV": str(host.folder / "venv")}
    assert host.apply("tools.sh", "uv", "/usr/bin/python3") == ""
    assert "locked" in installed(host)


def test_a_tasks_own_virtual_environment_takes_packages_with_the_login_of_a_connection(
    host: Host, index: Served
) -> None:
    """As PythonVirtualenvOperator: index_urls_from_connection_ids is in the virtual environment's
    file, which pip reads after that of the worker image."""
    text = (fake.FILES / "usr/local/lib/airflow/image-fill.sh").read_text()
    (block,) = re.findall(r'^if \[ -n "\$DEFAULT_INDEX" \]; then$.*?^fi$', text, re.M | re.S)
    root, trusted = host.folder / "root", host.folder / "trusted.pem"
    (root / "etc").mkdir(parents=True)
    (root / str(host.folder).lstrip("/")).mkdir(parents=True)
    values = {name: host.values[name] for name in ("DEFAULT_INDEX", "PACKAGE_AUTHORITY")}
    recipe = f"set -eu; root={root}; trusted={trusted}\n{block}"
    subprocess.run(["sh", "-c", recipe], env={**os.environ, **values}, check=True)
    # A user's file in place of the system's, which this machine may have: that of the virtual
    # environment comes after both.
    (host.folder / ".config/pip").mkdir(parents=True)
    (root / "etc/pip.conf").rename(host.folder / ".config/pip/pip.conf")
    (root / str(trusted).lstrip("/")).rename(trusted)

    venv = host.folder / "task"
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(host.folder), "PIP_NO_INPUT": "1"}
    subprocess.run([sys.executable, "-m", "venv", venv], env=surroundings, check=True)
    command = [f"{venv}/bin/pip", "--no-cache-dir", "install", "inner"]
    refused = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert refused.returncode != 0 and index.url in refused.stdout
    (venv / "pip.conf").write_text(
        f"[global]\nindex-url = {index.url.replace('//', '//deploy:' + quote(LOGIN[1]) + '@')}"
    )
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert LOGIN[1] not in done.stdout + done.stderr
    assert list(venv.glob("lib/python3*/site-packages/inner.py"))


def test_the_login_is_in_no_command_and_no_file_that_pyinfra_shows(index: Served) -> None:
    plan = fake.plan(fake.settings(given(index)))
    commands = [command for each in plan.operations for command in each.commands]
    said = [*plan.names, *plan.facts, *plan.uploads.values(), *commands]
    assert not [text for text in said if LOGIN[1] in text]
    write = plan.named("Write the logins of the package indexes")
    assert layout.PACKAGE_LOGINS in " ".join(write.commands)
    # A login that the inventory no longer has goes.
    (command,) = fake.plan(fake.settings()).named("Remove the logins").commands or [""]
    assert command == ""  # there is none on a bare host


def test_programs_that_build_are_on_the_host_alone() -> None:
    given = {"build_apt_packages": ["build-essential", "default-libmysqlclient-dev"]}
    settings = fake.settings(given)
    plan = fake.plan(settings)
    assert "default-libmysqlclient-dev" in " ".join(plan.named("Install Debian packages").commands)
    values = plan.uploads[layout.HOST_ENV].splitlines()
    assert "BUILDS_PACKAGES=yes" in values
    assert [line for line in values if line.startswith("WORKER_PACKAGES=")] == [
        "WORKER_PACKAGES=''"
    ]
