"""Real servers on the test machine for Airflow and its tasks: S3, git, registry, Python packages,
REST, mail, login.

Each runs as a transient systemd unit and listens on the machine's address, where the host, its
pods and the test process reach it. Its logins belong to the object, its data to the machine: a
start replaces what ran before, takes this object's logins and keeps the data. So a test that
wants a server to say no starts it with another login:

    s3 = S3Server(machine).start()
    dataclasses.replace(s3, secret_key="another").start()
"""

from __future__ import annotations

import http.client
import io
import json
import re
import shlex
import ssl
import tempfile
import urllib.error
import urllib.request
import zipfile
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar, Self

from tasks import layout
from tests.e2e import oidc_provider, rest_service
from tests.sandbox import common, machine, versitygw
from tests.sandbox.machine import Machine
from tests.support import wait_for

FOLDER = "/srv/test-servers"
# Services that Debian's packages would start by themselves, on ports of their own choice.
PACKAGED_SERVICES = ("docker-registry", "lighttpd", "slapd")
INSTALL_SECONDS = 300
ANSWER_SECONDS = 30
DOCKER_HUB = "registry-1.docker.io"  # the server of the registry docker.io


# A certificate by an authority of its own. The last file is the sign that all are there.
_CERTIFICATES = """\
set -e
mkdir --parents {folder}
cd {folder}
test ! -e server.crt || exit 0
new='openssl req -x509 -newkey rsa:2048 -noenc -days 30'
$new -subj '/CN=Authority of {unit}' -addext keyUsage=critical,keyCertSign \
-keyout ca.key -out ca.crt
$new -subj /CN={unit} -addext subjectAltName={names} \
-addext basicConstraints=critical,CA:FALSE -CA ca.crt -CAkey ca.key \
-keyout server.key -out server.crt
"""


@dataclass(frozen=True)
class Server:
    """The common part of the servers: a port on the machine and a unit that can be stopped."""

    machine: Machine

    unit: ClassVar[str]
    port: ClassVar[int]
    _folder: ClassVar[str]  # what the server has on the machine

    @property
    def address(self) -> str:
        """Address and port, as the host, its pods and the test process reach the server."""
        return f"{self.machine.address}:{self.port}"

    def stop(self) -> None:
        """Stop the server, if it runs: from then on its port refuses connections."""
        self._shell(self._stopping)

    @property
    def ca_certificate(self) -> str:
        """Certificate (PEM) of the authority that a client must trust; there from the first start.

        It outlasts restarts.
        """
        return self._shell(f"cat {self._folder}/tls/ca.crt")

    @property
    def _stopping(self) -> str:
        # To stop a unit that does not exist would be an error.
        return f"{{ ! systemctl --quiet is-active {self.unit} || systemctl stop {self.unit}; }}"

    def _run(self, command: str, *options: str, url: str, ca: str | None = None) -> None:
        """Run the command as this server's unit, until the URL gets an answer of whatever kind."""
        new = ["systemd-run", "--quiet", "--collect", "--service-type=exec", *options]
        self._shell(f"{self._stopping} && {shlex.join(new)} --unit={self.unit} {command}")
        try:
            wait_for(lambda: _status(url, ca), ANSWER_SECONDS, f"{self.unit} answers at {url}")
        except AssertionError as error:
            log = self._shell(f"journalctl --no-pager --lines=20 --unit={self.unit}")
            raise AssertionError(f"{error}\n{log}") from None

    def _variables(self, **values: str) -> str:
        """An option that gives the unit variables from a file: its properties show only the path.

        What the inventory hides must be in no unit, and the host's tests look there.
        """
        path = f"{FOLDER}/{self.unit}.env"
        self._write(path, "".join(f"{name}={each}\n" for name, each in values.items()).encode())
        return f"--property=EnvironmentFile={path}"

    def _shell(self, command: str, stdin: bytes | None = None) -> str:
        return machine.run(self.machine, command, stdin=stdin).stdout

    def _write(self, path: str, content: bytes, mode: str = "600", owner: str = "root") -> None:
        """Write a file on the machine so that a reader sees the old or the new one."""
        options = f"-D --mode={mode} --owner={owner} --group={owner}"
        self._shell(f"install {options} /dev/stdin {path}.new && mv {path}.new {path}", content)

    def _certify(self, folder: str, *more: str) -> None:
        """Make server.crt and server.key, and ca.crt of their authority, unless they are there.

        The certificate is for the machine's address and for `more`, in openssl's words.
        """
        names = ",".join([f"IP:{self.machine.address}", *more])
        self._shell(_CERTIFICATES.format(folder=folder, unit=self.unit, names=names))

    def _install(self, *packages: str) -> None:
        """Install the Debian packages that the machine lacks; their own services never start."""
        names = " ".join(packages)
        if not machine.run(self.machine, f"dpkg --status {names}", check=False).returncode:
            return
        install = f"apt-get install --yes --quiet --no-install-recommends {names}"
        machine.run(
            self.machine,
            f"systemctl mask --quiet {' '.join(PACKAGED_SERVICES)}"
            f" && apt-get update --quiet && DEBIAN_FRONTEND=noninteractive {install}",
            timeout=INSTALL_SECONDS,
        )


@dataclass(frozen=True)
class S3Server(Server):
    """An S3 server, versitygw: a bucket is a folder of the machine, an object a file in it."""

    access_key: str = "test"
    secret_key: str = field(default_factory=lambda: token_hex(16), repr=False)

    unit = "test-s3"
    port = 19000
    region: ClassVar[str] = "us-east-1"
    _program: ClassVar[str] = f"{FOLDER}/s3/versitygw"
    _data: ClassVar[str] = f"{FOLDER}/s3/data"

    @property
    def endpoint(self) -> str:
        """URL that S3 clients are given; a bucket is the first part of the path."""
        return f"http://{self.address}"

    @property
    def connection(self) -> dict[str, Any]:
        """The server as a connection of Airflow."""
        extra = {
            "endpoint_url": self.endpoint,
            "region_name": self.region,
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        }
        return {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": extra,
        }

    def start(self) -> Self:
        """Start the server, which is built first if need be (about 2 minutes, once)."""
        program = versitygw.ensure().read_bytes()
        there = self._shell(f"mkdir --parents {self._data}; sha256sum {self._program} || true")
        if there[:64] != sha256(program).hexdigest():
            self._write(self._program, program, mode="755")
        self._run(
            f"{self._program} --port :{self.port} --region {self.region} posix {self._data}",
            self._variables(ROOT_ACCESS_KEY=self.access_key, ROOT_SECRET_KEY=self.secret_key),
            url=self.endpoint,
        )
        return self

    def create_bucket(self, name: str) -> None:
        """Create a bucket, unless it exists; raises SandboxError if the server says no."""
        login = f"--access {self.access_key} --secret {self.secret_key}"
        self._shell(
            f"test -d {self._data}/{name} || {self._program} admin {login}"
            f" --endpoint-url {self.endpoint} --region {self.region}"
            f" create-bucket --owner {self.access_key} --bucket {name}"
        )

    def objects(self, bucket: str) -> list[str]:
        """Keys of the bucket's objects, sorted."""
        found = self._shell(f"cd {self._data}/{bucket} && find . -type f -printf '%P\\n'")
        return sorted(key for key in found.splitlines() if not key.startswith(".sgwtmp/"))

    def read(self, bucket: str, key: str) -> str:
        """An object's text."""
        return self._shell(f"cat {shlex.quote(f'{self._data}/{bucket}/{key}')}")


def _new_ssh_key() -> str:
    """A private key without a passphrase."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        common.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path])
        return path.read_text()


# http.receivepack is on for users who are logged in, so pushing works too.
_LIGHTTPD = """\
server.modules = ("mod_alias", "mod_auth", "mod_authn_file", "mod_setenv", "mod_cgi")
server.document-root = "{home}"
server.port = {port}
alias.url = ("/git" => "/usr/lib/git-core/git-http-backend")
cgi.assign = ("" => "")
setenv.add-environment = ("GIT_PROJECT_ROOT" => "{home}", "GIT_HTTP_EXPORT_ALL" => "1")
auth.backend = "plain"
auth.backend.plain.userfile = "{users}"
auth.require = ("" => ("method" => "basic", "realm" => "git", "require" => "valid-user"))
"""


@dataclass(frozen=True)
class GitServer(Server):
    """Private git repositories: over HTTP for a user with a token, over SSH for a deploy key.

    HTTP is served by git's own backend behind lighttpd. SSH is the machine's, which a stop leaves
    alone; its user `git` gets no shell.
    """

    user: str = "deploy"
    token: str = field(default_factory=lambda: token_hex(16), repr=False)
    private_key: str = field(default_factory=_new_ssh_key, repr=False)

    unit = "test-git"
    port = 19001
    _home: ClassVar[str] = "/srv/git"

    @property
    def known_hosts(self) -> str:
        """The line of a known_hosts file that tells the SSH server is the right one."""
        return self.machine.known_hosts.read_text()

    def http_url(self, repository: str) -> str:
        """URL of a repository for a user with a token; it holds neither."""
        return f"http://{self.address}/git/{repository}.git"

    def ssh_url(self, repository: str) -> str:
        """URL of a repository for a user with the private key."""
        return f"ssh://git@{self.machine.address}{self._home}/{repository}.git"

    def start(self) -> Self:
        """Start the HTTP server and let the private key, and no other one, in by SSH."""
        self._install("git", "lighttpd")
        account = f"--system --create-home --home-dir {self._home} --shell /usr/bin/git-shell git"
        folder = f"install --directory --owner=git --group=git --mode=700 {self._home}/.ssh"
        self._shell(f"{{ id git >/dev/null 2>&1 || useradd {account}; }} && {folder}")
        key = common.run(["ssh-keygen", "-y", "-f", "/dev/stdin"], stdin=self.private_key.encode())
        keys = f"{self._home}/.ssh/authorized_keys"
        self._write(keys, f"restrict {key.stdout}".encode(), owner="git")
        # From Debian 13 on sshd turns an address away for a while that came with a wrong key.
        self._shell(
            "! sshd -T | grep -q '^persourcepenalties ' || {"
            " echo PerSourcePenalties no > /etc/ssh/sshd_config.d/e2e.conf; systemctl reload ssh; }"
        )

        users, config = f"{FOLDER}/git/users", f"{FOLDER}/git/lighttpd.conf"
        self._write(users, f"{self.user}:{self.token}\n".encode(), owner="git")
        text = _LIGHTTPD.format(home=self._home, port=self.port, users=users)
        self._write(config, text.encode(), owner="git")
        self._run(f"lighttpd -D -f {config}", "--uid=git", url=f"http://{self.address}/git/")
        return self

    def create(self, repository: str) -> None:
        """Create an empty repository, unless it exists."""
        self._git(f"init --quiet --bare --initial-branch=main {repository}.git")

    def push(
        self,
        repository: str,
        files: Mapping[str, str | None],
        branch: str = "main",
        message: str = "Change files",
    ) -> str:
        """Commit files (text by path; None removes) on top of a branch; returns the commit's id.

        A branch that does not exist begins with this commit.
        """
        name = f"refs/heads/{branch}"
        inside = f"-C {repository}.git"
        parent = self._git(f"{inside} for-each-ref --format='%(objectname)' {name}").strip()
        stream = f"commit {name}\ncommitter Test <test@example.com> now\n{_data(message)}"
        stream += f"from {parent}\n" if parent else ""
        for path, text in files.items():
            stream += f"D {path}\n" if text is None else f"M 644 inline {path}\n{_data(text)}"
        self._git(f"{inside} fast-import --quiet --date-format=now", stream.encode())
        return self._git(f"{inside} rev-parse {name}").strip()

    def _git(self, command: str, stdin: bytes | None = None) -> str:
        # With root's HOME git would end at a configuration that it may not read.
        as_git = f"runuser --user=git -- env HOME={self._home} git"
        return self._shell(f"cd {self._home} && {as_git} {command}", stdin)


def _data(text: str) -> str:
    """A text as git's fast-import takes it."""
    return f"data {len(text.encode())}\n{text}\n"


_REGISTRY = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http:
  addr: :{port}
  tls: {{certificate: {folder}/tls/server.crt, key: {folder}/tls/server.key}}
auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}
"""


@dataclass(frozen=True)
class RegistryServer(Server):
    """A container registry, Debian's docker-registry, over TLS by an authority of its own.

    Its certificate is for Docker Hub's server as well, in whose place a test may let it stand.
    """

    user: str = "deploy"
    password: str = field(default_factory=lambda: token_hex(16), repr=False)

    unit = "test-registry"
    port = 19002
    _folder: ClassVar[str] = f"{FOLDER}/registry"

    def start(self) -> Self:
        """Start the registry."""
        self._install("docker-registry", "apache2-utils")
        folder = self._folder
        self._certify(f"{folder}/tls", f"DNS:{DOCKER_HUB}")
        hashed = self._shell(f"htpasswd -niB {self.user}", self.password.encode())
        self._write(f"{folder}/htpasswd", hashed.encode())
        config = f"{folder}/config.yml"
        self._write(config, _REGISTRY.format(folder=folder, port=self.port).encode())
        url, ca = f"https://{self.address}/v2/", self.ca_certificate
        self._run(f"docker-registry serve {config}", url=url, ca=ca)
        return self

    def tags(self, repository: str) -> list[str]:
        """Tags that the repository has, sorted; none if there is no such repository."""
        url = f"https://{self.address}/v2/{repository}/tags/list"
        login = b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
        context = ssl.create_default_context(cadata=self.ca_certificate)
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return sorted(json.load(answer)["tags"] or [])
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return []


# One package for everybody, and one for who logs in.
_INDEX = """\
server.document-root = "{folder}/files"
server.port = {port}
server.modules = ("mod_auth", "mod_authn_file", "mod_dirlisting", "mod_openssl")
dir-listing.activate = "enable"
mimetype.assign = (".whl" => "application/zip")
ssl.engine = "enable"
ssl.pemfile = "{folder}/tls/server.crt"
ssl.privkey = "{folder}/tls/server.key"
auth.backend = "plain"
auth.backend.plain.userfile = "{folder}/users"
auth.require = ("/closed/" => ("method" => "basic", "realm" => "e2e", "require" => "valid-user"))
"""


@dataclass(frozen=True)
class IndexServer(Server):
    """Two indexes of Python packages over TLS by an authority of its own; one wants a login.

    Each has a package with one module, whose WORD is the name of the index.
    """

    user: str = "reader"
    password: str = field(default_factory=lambda: token_hex(16), repr=False)

    unit = "test-index"
    port = 19007
    _folder: ClassVar[str] = f"{FOLDER}/index"

    def url(self, index: str) -> str:
        """URL of the index `open` or `closed`, without a login."""
        return f"https://{self.address}/{index}"

    def start(self) -> Self:
        """Start both."""
        self._install("lighttpd", "lighttpd-mod-openssl")
        self._certify(f"{self._folder}/tls")
        for index in ("open", "closed"):
            wheel = f"e2e_{index}-1.0-py3-none-any.whl"
            path = f"{self._folder}/files/{index}/e2e-{index}/{wheel}"
            self._write(path, _wheel(f"e2e_{index}", f"WORD = {index!r}\n"), mode="644")
        self._write(f"{self._folder}/users", f"{self.user}:{self.password}\n".encode())
        config = f"{self._folder}/lighttpd.conf"
        self._write(config, _INDEX.format(folder=self._folder, port=self.port).encode())
        self._run(f"lighttpd -D -f {config}", url=self.url("open"), ca=self.ca_certificate)
        return self


def _wheel(name: str, text: str) -> bytes:
    """A wheel with one module."""
    info = f"{name}-1.0.dist-info"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{name}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return content.getvalue()


@dataclass(frozen=True)
class RestServer(Server):
    """A service with one resource, a list, for clients with the token or the user and password."""

    token: str = field(default_factory=lambda: token_hex(16), repr=False)
    user: str = "deploy"
    password: str = field(default_factory=lambda: token_hex(16), repr=False)

    unit = "test-rest"
    port = 19003
    _resource: ClassVar[str] = f"{FOLDER}/rest/resource.json"

    @property
    def url(self) -> str:
        """URL of the resource."""
        return f"http://{self.address}{rest_service.RESOURCE}"

    def start(self) -> Self:
        """Start the service; its list is empty until something is published."""
        self._install("python3")
        program = f"{FOLDER}/rest/service.py"
        self._write(program, Path(rest_service.__file__).read_bytes())
        if machine.run(self.machine, f"test -e {self._resource}", check=False).returncode:
            self.publish([])
        self._run(
            f"python3 {program} {self.port} {self._resource}",
            self._variables(
                REST_TOKEN=self.token, REST_USER=self.user, REST_PASSWORD=self.password
            ),
            url=self.url,
        )
        return self

    def publish(self, rows: Sequence[object]) -> None:
        """Make these rows the resource, from the next request on."""
        self._write(self._resource, json.dumps(list(rows)).encode())


@dataclass(frozen=True)
class MailServer(Server):
    """An SMTP server, Debian's aiosmtpd, that takes every mail and keeps it."""

    unit = "test-mail"
    port = 19004
    _folder: ClassVar[str] = f"{FOLDER}/mail"

    def start(self) -> Self:
        """Start the server with no mails."""
        self._install("python3-aiosmtpd")
        command = f"python3 -m aiosmtpd -n -l 0.0.0.0:{self.port}"
        self._shell(
            f"{self._stopping}; rm -rf {self._folder}; mkdir -p {FOLDER};"
            f" systemd-run --quiet --collect --service-type=exec --unit={self.unit}"
            f" {command} -c aiosmtpd.handlers.Mailbox {self._folder}"
        )
        listens = f"ss -Hltn 'sport = :{self.port}'"
        wait_for(lambda: self._shell(listens), ANSWER_SECONDS, f"{self.unit} listens")
        return self

    def subjects(self) -> list[str]:
        """The subjects of the mails that came."""
        said = self._shell(f"cat {self._folder}/new/* 2>/dev/null || true")
        return re.findall(r"(?m)^Subject: (.*)$", said)

    def text(self, subject: str) -> str:
        """What the one mail with this subject says."""
        coded = self._shell(
            f"find {self._folder}/new -type f -exec base64 -w0 {{}} ';' -exec echo ';'"
        )
        mails = [message_from_bytes(b64decode(line), policy=default) for line in coded.splitlines()]
        (found,) = (each for each in mails if each["Subject"] == subject)
        body = found.get_body()
        assert body
        return str(body.get_content())


_SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCertificateFile {folder}/certificate.pem
TLSCertificateKeyFile {folder}/key.pem
database mdb
suffix "dc=example,dc=com"
rootdn "cn=admin,dc=example,dc=com"
rootpw {password}
directory {folder}/data
overlay memberof
"""
_COMPANY = """\
dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
o: example
dc: example
"""
_PERSON = """
dn: uid={name},dc=example,dc=com
objectClass: inetOrgPerson
uid: {name}
cn: {name}
sn: {name}
givenName: {name}
mail: {name}@example.com
userPassword: {password}
"""
_GROUP = """
dn: cn={name},dc=example,dc=com
objectClass: groupOfNames
cn: {name}
member: uid={member},dc=example,dc=com
"""


@dataclass(frozen=True)
class LdapServer(Server):
    """A directory of people, Debian's slapd, over TLS with a certificate of its own."""

    people: tuple[str, ...]
    groups: Mapping[str, str]  # each with its member
    password: str = field(default_factory=lambda: token_hex(16), repr=False)  # everybody's

    unit = "test-ldap"
    port = 19005
    folder: ClassVar[str] = f"{FOLDER}/ldap"
    user: ClassVar[str] = "cn=admin,dc=example,dc=com"

    def start(self) -> Self:
        """Start the server with these people and groups."""
        self._install("slapd", "ldap-utils", "openssl")
        folder, url = self.folder, f"ldaps://{self.address}"
        self._shell(
            f"{self._stopping}; rm -rf {folder} && mkdir -p {folder}/data && openssl req -x509"
            f" -newkey rsa:2048 -nodes -days 10 -subj /CN=ldap"
            f" -addext subjectAltName=IP:{self.machine.address}"
            f" -keyout {folder}/key.pem -out {folder}/certificate.pem 2>/dev/null"
        )
        config = _SLAPD.format(folder=folder, password=self.password)
        self._write(f"{folder}/slapd.conf", config.encode())
        self._shell(
            "systemd-run --quiet --collect --service-type=exec"
            f" --unit={self.unit} slapd -f {folder}/slapd.conf -h {url} -d 0"
        )
        listens = f"ss -Hltn 'sport = :{self.port}'"
        wait_for(lambda: self._shell(listens), ANSWER_SECONDS, f"{self.unit} listens")
        people = [_PERSON.format(name=name, password=self.password) for name in self.people]
        groups = [_GROUP.format(name=name, member=who) for name, who in self.groups.items()]
        self._write(f"{folder}/password", self.password.encode())
        self._shell(
            f"LDAPTLS_CACERT={folder}/certificate.pem ldapadd -x -H {url} -D {self.user}"
            f" -y {folder}/password",
            "".join([_COMPANY, *people, *groups]).encode(),
        )
        return self


@dataclass(frozen=True)
class OidcServer(Server):
    """A provider of OpenID Connect, canaille, over TLS by an authority of its own."""

    people: tuple[str, ...]
    groups: Mapping[str, str]  # each with its member
    redirect: str  # where it sends people who logged in
    password: str = field(default_factory=lambda: token_hex(16), repr=False)  # everybody's
    client_secret: str = field(default_factory=lambda: token_hex(16), repr=False)

    unit = "test-oidc"
    port = 19006
    client: ClassVar[str] = "airflow"
    folder: ClassVar[str] = f"{FOLDER}/oidc"

    @property
    def url(self) -> str:
        """What the provider calls itself."""
        return f"https://{self.address}"

    @property
    def metadata_url(self) -> str:
        """Where a client finds everything else."""
        return f"{self.url}/.well-known/openid-configuration"

    @property
    def ca_file(self) -> str:
        """Certificate of the authority, on the machine."""
        return f"{self.folder}/ca.crt"

    def start(self) -> Self:
        """Start the provider, which is installed first if need be, in an environment of its own."""
        self._install("openssl")
        folder = self.folder
        self._certify(folder)
        words = ("--frozen", "--quiet", "--no-emit-project", "--only-group", "login-server")
        lock = common.run(["uv", "export", *words]).stdout
        self._write(f"{folder}/lock.txt", lock.encode())
        uv = f"env UV_SYSTEM_CERTS=true {layout.UV}/bin/uv"
        machine.run(
            self.machine,
            f"cd {folder} && cmp -s lock.txt installed.txt || {{ {uv} venv --quiet --clear"
            f" --python /usr/bin/python3 venv && {uv} pip install --quiet --require-hashes"
            f" --python venv/bin/python -r lock.txt && cp lock.txt installed.txt; }}",
            timeout=INSTALL_SECONDS,
        )
        given = {
            "address": self.address,
            "people": list(self.people),
            "groups": dict(self.groups),
            "redirect": self.redirect,
            "client": self.client,
            "password": self.password,
            "client_secret": self.client_secret,
        }
        self._write(f"{folder}/given.json", json.dumps(given).encode())
        self._write(f"{folder}/provider.py", Path(oidc_provider.__file__).read_bytes())
        ca = self._shell(f"cat {self.ca_file}")
        self._run(
            f"{folder}/venv/bin/python {folder}/provider.py",
            f"--working-directory={folder}",
            url=self.metadata_url,
            ca=ca,
        )
        return self


def _status(url: str, ca: str | None = None) -> int:
    """Status of the answer to a GET without a login; 0 if there is no answer."""
    context = ssl.create_default_context(cadata=ca) if ca else None
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return 0
