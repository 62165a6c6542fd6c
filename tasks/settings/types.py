"""The types of settings: single values, settings with several keys, and sections."""

from __future__ import annotations

import ast
import hashlib
import ipaddress
import json
import math
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import (
    DNSName,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)
from packaging.requirements import InvalidRequirement, Requirement
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    with_config,
)
from typing_extensions import TypedDict

# Values reach shell, YAML, systemd, nginx and URLs. Most types here allow only characters without a
# special meaning in any of these; the code that uses the others quotes them. `strange` refuses
# control characters in all values.


def _checked(pattern: str, **limits: Any) -> StringConstraints:
    # In this dialect, \w and \d would be letters and digits of every script, and $ is the very end.
    return StringConstraints(pattern=f"^(?:{pattern})$", **limits)


_WORD = "[A-Za-z0-9_]"
_SEGMENT = "[A-Za-z0-9_@+.-]+"


def _normal(path: str) -> str:
    if (normal := posixpath.normpath(path)) != path:
        raise ValueError(f"{path} has other spellings: write {normal}")
    return path


AbsolutePath = Annotated[
    str, _checked(f"(/{_SEGMENT})+/?", max_length=1024), AfterValidator(_normal)
]
# Kubernetes compares the text of a path, so each folder has one spelling. Nobody needs the whole
# root folder.
HostFolder = AbsolutePath
# A folder that pods share: the deploy lets services write there, and deletes old logs in it.
SYSTEM_FOLDERS = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root"),
    *("/run", "/sbin", "/sys", "/usr", "/opt/airflow", "/var/backups", "/var/cache", "/var/run"),
    *("/var/lib/airflow", "/var/lib/airflow-dags", "/var/lib/airflow-deploy", "/var/log/airflow"),
    *("/var/lib/apt", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker"),
    *("/var/lib/dpkg", "/var/lib/etcd", "/var/lib/minikube", "/var/lib/postgresql"),
    "/var/lib/systemd",
)
# Folders that hold folders of others; a folder below them is fine.
SHARED_FOLDERS = (
    *("/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/lib", "/var/lib/kubelet"),
    *("/var/local", "/var/log", "/var/mail", "/var/opt", "/var/spool", "/var/tmp"),
)


def _nobody_elses(path: str) -> str:
    parents = {path, *map(str, PurePosixPath(path).parents)}
    if path in SHARED_FOLDERS or parents & set(SYSTEM_FOLDERS):
        raise ValueError(
            f"{path} belongs to the system or to Airflow, and the deploy would let services write"
            " there and delete old logs: choose a folder of its own, such as one in /srv"
        )
    return path


SharedFolder = Annotated[AbsolutePath, AfterValidator(_nobody_elses)]


def _no_way_up(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise ValueError(f"{path} leads out of the folder, or has other spellings: leave dots out")
    return path


_RELATIVE = f"{_SEGMENT}(/{_SEGMENT})*"
RelativePath = Annotated[str, _checked(_RELATIVE, max_length=1024), AfterValidator(_no_way_up)]
Subpath = Annotated[str, _checked(f"({_RELATIVE})?", max_length=1024), AfterValidator(_no_way_up)]

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def _address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        is_name = re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", value) and len(value) < 254
        if not is_name or value.rpartition(".")[2].isdigit():
            raise ValueError(
                f"{shown(value)} is no address and no name of a host: write one, without a port"
            ) from None
    if "%" in value:
        raise ValueError(f"{shown(value)} has a zone: write the address without it")
    return value


Address = Annotated[str, AfterValidator(_address)]  # or a name, RFC 1123


def _machine_address(value: str) -> str:
    try:
        found = ipaddress.IPv4Address(value)
    except ValueError:
        raise ValueError(
            f"{shown(value)} is no address of IPv4: write one such as 192.0.2.10, without a prefix"
        ) from None
    if found.is_loopback or found.is_multicast or found.is_unspecified or found.is_reserved:
        raise ValueError(f"{value} can't be the address of a machine: write another one")
    return value


MachineAddress = Annotated[str, AfterValidator(_machine_address)]
# It never looks like an option of a command.
Token = Annotated[str, _checked("[A-Za-z0-9_./:@+][A-Za-z0-9_./:@+-]*", max_length=1024)]
Variable = Annotated[str, _checked(f"[A-Za-z_]{_WORD}*", max_length=255)]
Sha256 = Annotated[str, _checked("[0-9a-f]{64}")]
Version = Annotated[str, _checked("[0-9]{1,5}[.][0-9]{1,5}[.][0-9]{1,5}")]
ObjectNameOfKubernetes = Annotated[str, _checked("[a-z0-9]([-a-z0-9.]*[a-z0-9])?", max_length=253)]
KubernetesName = Annotated[str, _checked("[a-z]([-a-z0-9]*[a-z0-9])?", max_length=63)]
# A public key of age: https://age-encryption.org/v1
BackupRecipient = Annotated[
    str, _checked("age1[0-9a-z]{58}|ssh-ed25519 [A-Za-z0-9+/=]{68}( [A-Za-z0-9_@.-]+)?")
]
LinuxName = Annotated[str, _checked("[a-z_][a-z0-9_.-]*", max_length=32)]
Port = Annotated[int, Field(ge=1, le=65535)]
DebianPackage = Annotated[str, _checked("[a-z0-9][a-z0-9+.-]+", max_length=128)]


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(f"{shown(value)} is no network: write one such as 10.0.0.0/8") from None


Network = Annotated[str, AfterValidator(_network)]
Quantity = Annotated[str, _checked("[0-9]+([.][0-9]+)?([numkMGTPE]|[KMGTPE]i)?", max_length=32)]


def _without_login(value: object) -> object:
    # Units, processes and the pod template show the URL.
    if isinstance(value, str) and "@" in value:
        raise ValueError(
            "has a login, which everybody on the host could read: write the URL without it, as of a"
            " proxy on the host itself that logs in (cntlm)"
        )
    return value


ProxyUrl = Annotated[
    str,
    BeforeValidator(_without_login),
    _checked(r"http://[A-Za-z0-9._\[\]:-]+/?", max_length=1024),
]


def _without_wildcard(value: str) -> str:
    if "*" in value and value != "*":
        raise ValueError(
            f"{shown(value)} has a *, which few programs read in a name: write a domain with a dot"
            " at its beginning, such as .example.com"
        )
    return value


Unproxied = Annotated[
    str, _checked("[A-Za-z0-9._:/*-]+", max_length=256), AfterValidator(_without_wildcard)
]
# uv's own rule: https://docs.astral.sh/uv/concepts/indexes/#defining-an-index
IndexName = Annotated[str, _checked("[A-Za-z0-9._-]+", max_length=128)]
# Airflow's own limit: https://airflow.apache.org/docs/apache-airflow/3.3.2/howto/connection.html
ConnectionId = Annotated[str, StringConstraints(pattern=r"^[\w#!()\-.:/\\]{1,200}$")]
BundleName = Annotated[str, _checked("[a-zA-Z][A-Za-z0-9_-]*", max_length=250)]
# The name of a variable or a pool, as the database holds it.
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=250)]
# Airflow would replace $NAME in it by a variable of its process, Kubernetes $(NAME).
GitUrl = Annotated[
    str,
    _checked(
        r"(https?|ssh|git)://[A-Za-z0-9._~:/@%+,=\[\]-]+"
        r"|[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9.-]+:[A-Za-z0-9._~/@%+,=-]+",
        max_length=2000,
    ),
]


def _web_url(value: str) -> str:
    parts = urlsplit(value)
    try:
        _address(parts.hostname or "")
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{shown(value)} is no URL of a host: {error}") from None
    if port == 0 or {"", ".", ".."} & set(parts.path.rstrip("/").split("/")[1:]):
        raise ValueError(f"{shown(value)} has port 0, or a path with //, /./ or /../: correct it")
    return value


WebUrl = Annotated[
    str,
    _checked(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9_./~-]*)?", max_length=1000),
    AfterValidator(_web_url),
]
BucketUrl = Annotated[
    str,
    _checked("s3://[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9_./=-]*)?", max_length=1000),
]


def _requirement(value: str) -> str:
    if "ssh://" in value:
        raise ValueError(
            "the requirement comes by ssh, for which the deploy has no key: write its https URL,"
            " and put the login into /root/.netrc on the host"
        )
    if re.search(r"://[^/\s]*@", value):
        raise ValueError(
            "the URL of a requirement contains a name or a token, which arguments and the image"
            " would show: write it without, and put the login into /root/.netrc on the host"
        )
    try:
        Requirement(value)
    except InvalidRequirement as error:
        raise ValueError(
            f"{shown(value)} is no requirement ({str(error).splitlines()[0]}): write one like"
            " pandas>=2"
        ) from None
    return value


PythonRequirement = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_requirement)]


def _cfg_value(value: str) -> str:
    lines = [line.strip() for line in value.strip().split("\n")]
    if any(line.startswith(("#", ";")) for line in lines[1:]):
        raise ValueError("a line after the first begins with # or ;, which airflow.cfg leaves out")
    if "\r" in value:
        raise ValueError("airflow.cfg can't hold a carriage return: leave it out")
    return "\n".join(lines)


# As airflow.cfg holds it: without spaces at both ends of its lines.
CfgValue = Annotated[str, AfterValidator(_cfg_value)]
CfgOption = Annotated[str, _checked("[a-z0-9_]+", max_length=255)]
CfgSection = Annotated[str, _checked("[a-z0-9_][a-z0-9_.-]*", max_length=255)]
# PostgreSQL's own, such as TimeZone, or an extension's with its name and a dot.
PostgresOption = Annotated[
    str, _checked(f"[A-Za-z_]{_WORD}*([.][A-Za-z_]{_WORD}*)?", max_length=126)
]


def _line(value: str) -> str:
    if "\n" in value or "\t" in value or "\r" in value:
        raise ValueError(f"{shown(value)} has a line break or a tab: write one line")
    return value


Line = Annotated[str, AfterValidator(_line)]
# Users and roles of the web page, as Airflow's tables hold them. Airflow takes Ada and ada for one
# user. A file on the host has this name, too.
UserName = Annotated[str, _checked("[a-z0-9][a-z0-9_.@+-]*", max_length=64)]
RoleName = Annotated[Line, StringConstraints(min_length=1, max_length=64)]
ResourceName = Annotated[Line, StringConstraints(min_length=1, max_length=250)]
Permission = Literal["read", "edit", "create", "delete", "menu"]
LocalPath = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_line)]


def strange(value: Any) -> Iterator[str]:
    """Describe the parts of a value that no setting may have, at any depth.

    These are control characters except line breaks and tabs, lone surrogates, line separators that
    only some readers know, and all types that JSON does not have.
    """
    if isinstance(value, str):
        if value.isprintable():  # most are, and none of the characters below is
            return
        for each in set(value) - {"\n", "\r", "\t"}:
            number = ord(each)
            if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") or number & 0xFFFE == 0xFFFE:
                yield f"the character U+{number:04X}"
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str):
                yield f"the key {shown(key)}, which is no text"
            yield from strange(key)
            yield from strange(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from strange(each)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"the number {value}"
    elif not isinstance(value, int | float | date | SecretStr | BaseModel | None):
        yield f"a {type(value).__name__}"


def shown(value: object) -> str:
    """A value in a message: printable, not longer than a line, and without the login of a URL."""
    text = re.sub(r"://\S*@", "://…@", repr(value))
    return text if len(text) < 120 else f"{text[:100]}… ({len(text)} characters)"


# Only lines that uv writes: options in such a file, such as another index, belong into settings.
_LOCKED = r"#[ -~]*|[A-Za-z0-9][^\s=]* ?(==|@) ?[ -~]*| +--hash=sha256:[0-9a-f]{64}( \\)?|"
RequirementsLock = Annotated[str, _checked(rf"#[ -~]*(\n({_LOCKED}))*", max_length=2**20)]

# One or more certificates, as PEM.
Certificate = Annotated[str, StringConstraints(pattern=r"-----BEGIN CERTIFICATE-----")]


def _python(value: SecretStr) -> SecretStr:
    try:
        ast.parse(value.get_secret_value())
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        place = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        # The error may quote the text, which may hold a secret.
        raise ValueError(f"the text is no Python{place}: correct it") from None
    return value


PythonText = Annotated[SecretStr, AfterValidator(_python)]


class Compound(BaseModel):
    """A setting with several keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Section(Compound):
    """Settings that belong together: their keys begin with the name of the section.

    No message repeats the value of a field with repr=False.
    """

    heading: ClassVar[str]  # in inventories/README.md

    def conflicts(self) -> Iterator[str]:
        """Sentences about settings of this section that can't work together."""
        yield from ()

    def conflicts_of_group(self) -> Iterator[str]:
        """Sentences about conflicts if a group of the inventory has the host of this section."""
        yield from self.conflicts()


class Claim(Compound):
    """A PersistentVolumeClaim in the namespace, and the host's folder with the same files."""

    name: KubernetesName
    # It has the files that pods see: those of the subpath, if one is given.
    host_path: SharedFolder
    subpath: Subpath = ""
    size: Quantity | None = None  # of the claim that the deploy makes; none if the claim exists
    storage_class: KubernetesName | None = None  # none for the cluster's default
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany"] = "ReadWriteMany"


class GitBundle(Compound):
    """A git repository with DAGs: one of Airflow's DAG bundles."""

    url: GitUrl
    branch: Token = "main"
    folder: RelativePath | None = None
    refresh_seconds: int = Field(60, ge=5)
    connection: ConnectionId | None = None  # with the key or token; none for a public repository
    submodules: bool = False


class S3Logs(Compound):
    """The place of task logs in an object store that speaks S3."""

    folder: BucketUrl
    connection: ConnectionId


class Connection(Compound):
    """A connection of Airflow; everything but the type is secret."""

    conn_type: Token
    host: str | None = None
    login: str | None = None
    password: SecretStr | None = None
    schema_: str | None = Field(None, alias="schema")
    port: Port | None = None
    extra: dict[str, Any] = {}


class Pool(Compound):
    """A pool of Airflow: it limits how many of its tasks run at once."""

    slots: int = Field(ge=-1)
    description: str = ""
    include_deferred: bool = False


class WebUser(Compound):
    """A user of the web page and the REST API who logs in with a password."""

    roles: list[RoleName] = Field(min_length=1)
    # With None the host makes the first one, for root to read, and leaves later ones alone.
    password: Annotated[SecretStr, Field(min_length=1)] | None = None
    # None keeps the values that people write into the page.
    email: Line | None = None
    first_name: Line | None = None
    last_name: Line | None = None


class CertificateAndKey(Compound):
    """The certificate of a server or a client, and its key."""

    certificate: Certificate  # with the certificates between it and its authority
    key: SecretStr

    def conflicts(self) -> Iterator[str]:
        """Sentences about a pair that can't work; they never repeat the key."""
        try:
            first, *_ = load_pem_x509_certificates(self.certificate.encode())
        except ValueError:
            yield "certificate can't be read: write it as PEM, like its file"
            return
        try:
            known = load_pem_private_key(self.key.get_secret_value().encode(), None)
        except (TypeError, ValueError):  # an encrypted key, or no key
            yield "key can't be read: write it as PEM, without a passphrase"
            return
        if known.public_key() != first.public_key():
            yield "key does not belong to the certificate: write those of one pair"
        if first.not_valid_after_utc < datetime.now(UTC):
            yield f"certificate has ended on {first.not_valid_after_utc:%Y-%m-%d}: write a new one"

    @property
    def end(self) -> datetime:
        """When the certificate ends."""
        return load_pem_x509_certificates(self.certificate.encode())[0].not_valid_after_utc

    def is_for(self, name: str) -> bool:
        """Whether browsers accept the certificate for a name or an address."""
        first, *_ = load_pem_x509_certificates(self.certificate.encode())
        try:
            names = first.extensions.get_extension_for_class(SubjectAlternativeName).value
        except ExtensionNotFound:
            return False
        try:
            return ipaddress.ip_address(name) in names.get_values_for_type(IPAddress)
        except ValueError:
            pass
        _, _, domain = name.lower().partition(".")
        known = [each.lower() for each in names.get_values_for_type(DNSName)]
        return name.lower() in known or f"*.{domain}" in known


class PackageIndex(Compound):
    """An index of Python packages, in the terms of uv."""

    url: WebUrl
    default: bool = False
    username: str | None = None
    password: SecretStr | None = None

    @property
    def login(self) -> tuple[str, str] | None:
        """The login, if there is one."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password.get_secret_value()

    @property
    def host(self) -> str:
        """The server's name, without a port: netrc has logins by that."""
        return urlsplit(self.url).hostname or ""


class Registry(Compound):
    """A container registry that gets the worker image and serves it to the cluster."""

    # It begins with the name of the registry, which has a dot or a port.
    repository: Annotated[
        str,
        _checked(
            r"([a-z0-9-]+([.][a-z0-9-]+)+(:[0-9]{1,5})?|[a-z0-9-]+:[0-9]{1,5})"
            r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)+",
            max_length=255,
        ),
    ]
    username: Annotated[str, _checked(r"[^:\s\\'\"`-][^:\s\\'\"`]*", max_length=255)] | None = None
    password: Annotated[SecretStr, Field(min_length=1)] | None = None
    ca_certificate: Certificate | None = None  # of a private authority

    @property
    def host(self) -> str:
        """The registry's name, with the port if one is given."""
        return self.repository.partition("/")[0]


def _server(value: str) -> str:
    host, port = host_and_port(value, 1)
    _address(host)
    if not 1 <= port <= 65535:
        raise ValueError(f"{shown(value)} has no port from 1 to 65535: write HOST or HOST:PORT")
    return value


def host_and_port(value: str, default: int) -> tuple[str, int]:
    """The parts of HOST, HOST:PORT, ADDRESS or [ADDRESS]:PORT."""
    found = re.fullmatch(r"(?:\[(.*)\]|([^:\[\]]*))(?::([0-9]{1,5}))?", value)
    if not found:  # an address of IPv6 alone
        return value, default
    return found[1] or found[2] or "", int(found[3] or default)


DatabaseServer = Annotated[str, AfterValidator(_server)]
# A managed PostgreSQL may impose names. These need no quotes in SQL, sed, URLs and variables.
DatabaseName = Annotated[str, _checked("[A-Za-z_][A-Za-z0-9_.-]*", max_length=63)]


class DatabaseLogin(Compound):
    """A role of PostgreSQL, with a password, a client certificate, or both."""

    username: DatabaseName
    password: Annotated[SecretStr, Field(min_length=1)] | None = None
    certificate: Certificate | None = None
    key: SecretStr | None = None

    def conflicts(self) -> Iterator[str]:
        """Sentences about a login that can't work; they never repeat a secret."""
        if self.certificate and self.key:
            yield from CertificateAndKey(certificate=self.certificate, key=self.key).conflicts()
        elif self.certificate or self.key or not self.password:
            yield "write a password, or a certificate and its key, or all three"
        if self.password and {*"\n\r"} & {*self.password.get_secret_value()}:
            yield "the password has several lines, which libpq's file can't hold: choose another"


_OPEN = ConfigDict(strict=True, extra="allow")


@with_config(_OPEN)
class PodMetadata(TypedDict, total=False):
    """The parts of a pod's metadata that are merged and so need a certain shape."""

    labels: dict[str, str]
    annotations: dict[str, str]


def _volume(volume: dict[str, Any]) -> dict[str, Any]:
    folder = volume.get("hostPath") or {"path": "/"}
    path = folder.get("path") if isinstance(folder, dict) else folder
    if (
        not isinstance(folder, dict)
        or not isinstance(path, str)
        or not re.fullmatch(f"/|(/{_SEGMENT})+/?", path)
    ):
        raise ValueError(f"{shown(path)} is no path of a folder: write an absolute one")
    return volume


# The policy on pods names the kinds of volumes, and the folders.
PodVolume = Annotated[
    dict[Annotated[str, _checked("[a-z][A-Za-z0-9]*", max_length=63)], Any],
    AfterValidator(_volume),
]


@with_config(_OPEN)
class PodSpec(TypedDict, total=False):
    """The parts of a pod's spec that are merged and so need a certain shape."""

    containers: list[dict[str, Any]]
    initContainers: list[dict[str, Any]]
    serviceAccountName: ObjectNameOfKubernetes
    volumes: list[PodVolume]


@with_config(_OPEN)
class PodManifest(TypedDict, total=False):
    """A part of a Pod's manifest; the cluster checks the rest."""

    metadata: PodMetadata
    spec: PodSpec


class _Name(TypedDict):
    name: str


@with_config(_OPEN)
class ObjectMetadata(_Name, total=False):
    """The identity of an object; the cluster checks the rest."""

    namespace: str


@with_config(_OPEN)
class KubernetesObject(TypedDict):
    """The manifest of a Kubernetes object."""

    apiVersion: str
    kind: str
    metadata: ObjectMetadata


# The first one runs each task that names none.
Executor = Literal[
    "KubernetesExecutor", "KubernetesExecutor,LocalExecutor", "LocalExecutor,KubernetesExecutor"
]


def secret_json(data: Any) -> SecretStr:
    """Data as JSON, with the secrets that it has."""
    return SecretStr(json.dumps(data, default=lambda each: each.get_secret_value(), indent=1))


def is_this_host(address: str) -> bool:
    """Whether an address means the machine that uses it."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def in_url(address: str) -> str:
    """An address or name as a URL contains it, before a port."""
    try:
        return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    except ValueError:
        return address


def numbers(version: str) -> list[int]:
    """A version as numbers, which compare as versions do."""
    return [int(number) for number in version.split(".")]


def digest(*parts: str) -> str:
    """A short name for the content of these texts together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
