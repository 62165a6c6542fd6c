"""What a setting may be: the types of single values, and settings that have parts of their own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
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

# These come to stand in shell commands and YAML as they are.
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[\w./+@-]*$")]
Address = Annotated[str, StringConstraints(pattern=r"^[\w.:-]+$")]
Word = Annotated[str, StringConstraints(pattern=r"^[\w./:@+-]+$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
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
# Airflow's own bound: https://airflow.apache.org/docs/apache-airflow/3.3.2/howto/connection.html
ConnectionId = Annotated[str, StringConstraints(pattern=r"^[\w#!()\-.:/\\]{1,200}$")]
BundleName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][\w-]*$")]
GitUrl = Annotated[
    str, StringConstraints(pattern=r"^(https?|ssh|git)://[^\s\"]+$|^[\w.-]+@[\w.-]+:[^\s\"]+$")
]
WebUrl = Annotated[str, StringConstraints(pattern=r"^https?://[\w.:\[\]-]+(/[\w./~-]*)?$")]
BucketUrl = Annotated[str, StringConstraints(pattern=r"^s3://[\w.-]+(/[\w./=-]*)?$")]


# One or more, as text.
Certificate = Annotated[str, StringConstraints(pattern=r"-----BEGIN CERTIFICATE-----")]


class Part(BaseModel):
    """A setting with parts of its own."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Claim(Part):
    """A PersistentVolumeClaim in the namespace, and the host's folder with the same files."""

    name: KubernetesName
    host_path: AbsolutePath  # holds what the pods see: the subpath's files, if there is one
    subpath: str = Field("", pattern=r"^[\w.-]+(/[\w.-]+)*$|^$")
    size: Quantity | None = None  # of the claim that the deploy makes; none: it must be there
    storage_class: KubernetesName | None = None  # none: the cluster's default
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany"] = "ReadWriteMany"


class GitBundle(Part):
    """A git repository with DAGs: one of Airflow's DAG bundles."""

    url: GitUrl
    branch: Word = "main"
    folder: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)*$")
    refresh_seconds: int = Field(60, ge=5)
    connection: ConnectionId | None = None  # with the key or token; none: a public repository


class S3Logs(Part):
    """Where task logs are kept in an object store that speaks S3."""

    folder: BucketUrl
    connection: ConnectionId


class Connection(Part):
    """A connection of Airflow; all but the type is secret."""

    conn_type: Word
    host: str | None = None
    login: str | None = None
    password: SecretStr | None = None
    schema_: str | None = Field(None, alias="schema")
    port: Port | None = None
    extra: dict[str, Any] = {}


class Pool(Part):
    """A pool of Airflow: how many tasks that name it may run at once."""

    slots: int = Field(ge=-1)
    description: str = ""
    include_deferred: bool = False


class WebCertificate(Part):
    """What the web page shows to browsers."""

    certificate: Certificate  # with those between it and its authority
    key: SecretStr

    def conflicts(self) -> Iterator[str]:
        """What can't work; nothing of the key is repeated."""
        try:
            first, *_ = load_pem_x509_certificates(self.certificate.encode())
        except ValueError:
            yield "certificate can't be read: write it as PEM, as its file has it"
            return
        try:
            known = load_pem_private_key(self.key.get_secret_value().encode(), None)
        except (TypeError, ValueError):  # one that is encrypted, or none at all
            yield "key can't be read: write it as PEM, without a passphrase"
            return
        if known.public_key() != first.public_key():
            yield "key is another one than that of the certificate: write those of one pair"


class Registry(Part):
    """A container registry that the worker image is pushed to and pulled from."""

    # With the registry's own name in front, which has a dot or a port.
    repository: Annotated[
        str, StringConstraints(pattern=r"^([\w-]+\.[\w.-]+(:\d+)?|[\w-]+:\d+)(/[\w.-]+)+$")
    ]
    username: Annotated[str, StringConstraints(pattern=r"^[^:\s]+$")] | None = None
    password: SecretStr | None = None
    ca_certificate: Certificate | None = None  # of an own authority

    @property
    def host(self) -> str:
        """The registry's name, with the port if one is given."""
        return self.repository.partition("/")[0]


_OPEN = ConfigDict(strict=True, extra="allow")


@with_config(_OPEN)
class PodMetadata(TypedDict, total=False):
    """Of a pod's metadata, what must have a certain shape to be merged."""

    labels: dict[str, str]
    annotations: dict[str, str]


@with_config(_OPEN)
class PodSpec(TypedDict, total=False):
    """Of a pod's spec, what must have a certain shape to be merged."""

    containers: list[dict[str, Any]]
    initContainers: list[dict[str, Any]]
    volumes: list[dict[str, Any]]


@with_config(_OPEN)
class PodManifest(TypedDict, total=False):
    """A part of a Pod's manifest; whether the rest is right is for the cluster to say."""

    metadata: PodMetadata
    spec: PodSpec


class _Name(TypedDict):
    name: str


@with_config(_OPEN)
class ObjectMetadata(_Name, total=False):
    """Which object it is; the rest is the cluster's to judge."""

    namespace: str


@with_config(_OPEN)
class KubernetesObject(TypedDict):
    """The manifest of an object of the cluster."""

    apiVersion: str
    kind: str
    metadata: ObjectMetadata


# The first is what a task gets that does not ask for one.
Executor = Literal[
    "KubernetesExecutor", "KubernetesExecutor,LocalExecutor", "LocalExecutor,KubernetesExecutor"
]


def is_this_host(address: str) -> bool:
    """Whether an address means whoever uses it."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
