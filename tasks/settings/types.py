"""The types of settings: single values, settings with several keys, and sections."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import (
    DNSName,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    with_config,
)
from typing_extensions import TypedDict

# Shell commands and YAML contain these without quotes.
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[\w./+@-]*$")]
# Kubernetes compares the text of a path, so each folder has one spelling; nobody needs all of it.
HostFolder = Annotated[str, StringConstraints(pattern=r"^(/[\w@+-][\w.@+-]*)+$")]
Address = Annotated[str, StringConstraints(pattern=r"^[\w.:-]+$")]
Token = Annotated[str, StringConstraints(pattern=r"^[\w./:@+-]+$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
# A public key of age: https://age-encryption.org/v1
BackupRecipient = Annotated[
    str,
    StringConstraints(pattern=r"^(age1[0-9a-z]{58}|ssh-ed25519 [A-Za-z0-9+/=]{68}( [\w@.-]+)?)$"),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
KubernetesName = Annotated[
    str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]
LinuxName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]*$", max_length=32)]
Port = Annotated[int, Field(ge=1, le=65535)]
DebianPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value))


Network = Annotated[str, AfterValidator(_network)]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9.]+([numkMGTPE]|[KMGTPE]i)?$")]
# Airflow's own limit: https://airflow.apache.org/docs/apache-airflow/3.3.2/howto/connection.html
ConnectionId = Annotated[str, StringConstraints(pattern=r"^[\w#!()\-.:/\\]{1,200}$")]
BundleName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][\w-]*$")]
GitUrl = Annotated[
    str, StringConstraints(pattern=r"^(https?|ssh|git)://[^\s\"]+$|^[\w.-]+@[\w.-]+:[^\s\"]+$")
]
WebUrl = Annotated[str, StringConstraints(pattern=r"^https?://[\w.:\[\]-]+(/[\w./~-]*)?$")]
BucketUrl = Annotated[str, StringConstraints(pattern=r"^s3://[\w.-]+(/[\w./=-]*)?$")]


# One or more certificates, as PEM.
Certificate = Annotated[str, StringConstraints(pattern=r"-----BEGIN CERTIFICATE-----")]


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


class Claim(Compound):
    """A PersistentVolumeClaim in the namespace, and the host's folder with the same files."""

    name: KubernetesName
    host_path: (
        AbsolutePath  # with the files that pods see, which are those of the subpath, if it is given
    )
    subpath: str = Field("", pattern=r"^[\w.-]+(/[\w.-]+)*$|^$")
    size: Quantity | None = None  # of the claim that the deploy makes; none if the claim exists
    storage_class: KubernetesName | None = None  # none for the cluster's default
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany"] = "ReadWriteMany"


class GitBundle(Compound):
    """A git repository with DAGs: one of Airflow's DAG bundles."""

    url: GitUrl
    branch: Token = "main"
    folder: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)*$")
    refresh_seconds: int = Field(60, ge=5)
    connection: ConnectionId | None = None  # with the key or token; none for a public repository


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


class WebCertificate(Compound):
    """The certificate of the web page and its key."""

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


class Registry(Compound):
    """A container registry that gets the worker image and serves it to the cluster."""

    # It begins with the name of the registry, which has a dot or a port.
    repository: Annotated[
        str, StringConstraints(pattern=r"^([\w-]+\.[\w.-]+(:\d+)?|[\w-]+:\d+)(/[\w.-]+)+$")
    ]
    username: Annotated[str, StringConstraints(pattern=r"^[^:\s]+$")] | None = None
    password: SecretStr | None = None
    ca_certificate: Certificate | None = None  # of a private authority

    @property
    def host(self) -> str:
        """The registry's name, with the port if one is given."""
        return self.repository.partition("/")[0]


_OPEN = ConfigDict(strict=True, extra="allow")


@with_config(_OPEN)
class PodMetadata(TypedDict, total=False):
    """The parts of a pod's metadata that are merged and so need a certain shape."""

    labels: dict[str, str]
    annotations: dict[str, str]


@with_config(_OPEN)
class PodSpec(TypedDict, total=False):
    """The parts of a pod's spec that are merged and so need a certain shape."""

    containers: list[dict[str, Any]]
    initContainers: list[dict[str, Any]]
    volumes: list[dict[str, Any]]


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


def digest(*parts: str) -> str:
    """A short name for the content of these texts together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
