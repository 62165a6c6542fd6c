"""Container registries: ask whether one has an image, and log the host in to one.

preflight asks from this machine, with the standard library: before the first change the host has no
program that could ask, and this machine need not have one.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from http.client import HTTPException
from io import StringIO
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from pydantic import SecretStr
from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.layout import CONTAINERD_CONFIG, REGISTRY_LOGIN
from tasks.lib import whole_file
from tasks.lib.operations import run_unless, secret_file
from tasks.settings import HostSettings
from tasks.settings.types import Registry

# Folders in which containers' tools, and containerd, look for a registry's authority:
# containers-certs.d(5), https://github.com/containerd/containerd/blob/main/docs/hosts.md
CERTIFICATES = "/etc/containers/certs.d"
CONTAINERD_HOSTS = "/etc/containerd/certs.d"

DOCKER_HUB = "registry-1.docker.io"  # the server of the registry docker.io

TIMEOUT = 10  # seconds for each of at most three requests
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


class Reference(NamedTuple):
    """An image's name in its parts."""

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, image: str) -> Reference:
        """Split an image's name as container tools do: the first part is a registry if it looks
        like a host, otherwise the image is Docker Hub's."""
        name, _, digest = image.partition("@")
        first, slash, rest = name.partition("/")
        if not slash or not (re.search(r"[.:]", first) or first == "localhost"):
            first, rest = DOCKER_HUB, name if slash else f"library/{name}"
        elif first in ("docker.io", "index.docker.io"):
            first, rest = DOCKER_HUB, rest if "/" in rest else f"library/{rest}"
        repository, colon, tag = rest.partition(":")
        return cls(first, repository, digest or (tag if colon else "latest"))


def problem(image: str, *, reached: bool = False) -> str | None:
    """The reason why the cluster can't pull this image. None if it can, or if only somebody with
    a login can know.

    reached: whether the host reaches the registry. Then it does not matter that this machine can't.
    """
    reference = Reference.parse(image)
    try:
        _head_manifest(reference)
    except HTTPError as error:
        if error.code == 404:
            return (
                f"{reference.registry} has no {reference.repository} with tag {reference.tag}:"
                " check the name and the tag, or push the image first"
            )
        return None
    except (OSError, HTTPException, ValueError) as error:
        if reached and isinstance(error, OSError):
            return None
        return (
            f"the registry {reference.registry} can't be reached, neither from the host nor from"
            f" here ({error}): check its name and the network"
        )
    return None


def _head_manifest(reference: Reference) -> None:
    url = f"https://{reference.registry}/v2/{reference.repository}/manifests/{reference.tag}"
    headers = {"Accept": MANIFESTS}
    try:
        urlopen(Request(url, headers=headers, method="HEAD"), timeout=TIMEOUT).close()
    except HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code != 401 or not challenge.startswith("Bearer "):
            raise
        headers["Authorization"] = f"Bearer {_anonymous_token(challenge)}"
        urlopen(Request(url, headers=headers, method="HEAD"), timeout=TIMEOUT).close()


def _anonymous_token(challenge: str) -> str:
    """https://distribution.github.io/distribution/spec/auth/token/"""
    parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urlencode({key: parts[key] for key in ("service", "scope") if key in parts})
    with urlopen(f"{parts['realm']}?{query}", timeout=TIMEOUT) as answer:
        content = json.load(answer)
    return str(content.get("token") or content.get("access_token"))


def prepare_host(settings: HostSettings) -> None:
    """The host may use the registry of the settings, and has no login that it does not need."""
    registry = settings.worker.registry
    if registry and registry.password:
        secret_file(
            name="Write the registry's login",
            path=REGISTRY_LOGIN,
            content=_login(registry, registry.password),
        )
    else:
        files.file(name="Remove the registry's login", path=REGISTRY_LOGIN, present=False)
    if registry and registry.ca_certificate:
        _trust(settings, registry, registry.ca_certificate)


@deploy("Worker image")
def let_node_trust(settings: HostSettings) -> None:
    """containerd of a host that is the cluster's node trusts the registry of the settings."""
    if (registry := settings.worker.registry) and registry.ca_certificate:
        _trust(settings, registry, registry.ca_certificate)


def _login(registry: Registry, password: SecretStr) -> SecretStr:
    pair = f"{registry.username}:{password.get_secret_value()}".encode()
    host = "https://index.docker.io/v1/" if registry.host == "docker.io" else registry.host
    return SecretStr(json.dumps({"auths": {host: {"auth": b64encode(pair).decode()}}}))


def _trust(settings: HostSettings, registry: Registry, certificate: str) -> None:
    authority = f"{CERTIFICATES}/{registry.host}/ca.crt"
    places = [CERTIFICATES, f"{CERTIFICATES}/{registry.host}"]
    if settings.node_is_host:
        places += [CONTAINERD_HOSTS, f"{CONTAINERD_HOSTS}/{registry.host}"]
    for place in places:
        files.directory(name=f"Create {place}", path=place, mode="755")
    whole_file.put(
        name="Write the registry's CA",
        src=StringIO(certificate),
        dest=authority,
        mode="644",
    )
    if not settings.node_is_host:
        return
    # The images of Docker Hub have the name of a server that does not serve them.
    server = f"https://{DOCKER_HUB if registry.host == 'docker.io' else registry.host}"
    whole_file.put(
        name="Let containerd trust the registry's CA",
        src=StringIO(
            f'server = "{server}"\n\n[host."{server}"]\n'
            f'  capabilities = ["pull", "resolve"]\n  ca = "{authority}"\n'
        ),
        dest=f"{CONTAINERD_HOSTS}/{registry.host}/hosts.toml",
        mode="644",
    )
    option = f'config_path = "{CONTAINERD_HOSTS}"'
    run_unless(
        name="Let containerd look for registries' CAs",
        test=f"grep -qF '{option}' {CONTAINERD_CONFIG}",
        commands=[
            f"sed -i 's|config_path = \"\"|{option}|' {CONTAINERD_CONFIG}",
            "systemctl restart containerd",
        ],
        already="its configuration names the folder",
    )
