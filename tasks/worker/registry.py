"""Container registries: ask whether one has an image, log the host and the cluster in to one."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from http.client import HTTPException
from io import StringIO
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from pydantic import SecretStr
from pyinfra.operations import files

from tasks.layout import CONTAINERD_CONFIG, PULL_SECRET, REGISTRY_LOGIN
from tasks.lib.operations import secret_file, settled
from tasks.settings import HostSettings
from tasks.settings.types import Registry

# Where containers' tools look for a registry's authority, and where containerd is to look:
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
        """Split an image's name the way container tools do: the first part is a registry if it
        looks like a host, else the image is Docker Hub's."""
        name, _, digest = image.partition("@")
        first, slash, rest = name.partition("/")
        if not slash or not (re.search(r"[.:]", first) or first == "localhost"):
            first, rest = DOCKER_HUB, name if slash else f"library/{name}"
        elif first in ("docker.io", "index.docker.io"):
            first, rest = DOCKER_HUB, rest if "/" in rest else f"library/{rest}"
        repository, colon, tag = rest.partition(":")
        return cls(first, repository, digest or (tag if colon else "latest"))


def problem(image: str) -> str | None:
    """Why the cluster could not pull this image, or None if it could or if only its credentials
    can tell (a registry that wants a login)."""
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
        return (
            f"the registry {reference.registry} can't be reached ({error}): check its name and the"
            " network"
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
    """The host may use the registry of the settings, and holds no login that it has no use for."""
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
    files.put(
        name="Write the registry's authority",
        src=StringIO(certificate),
        dest=authority,
        mode="644",
    )
    if not settings.node_is_host:
        return
    # Docker Hub's images are named after another server than the one that has them.
    server = f"https://{DOCKER_HUB if registry.host == 'docker.io' else registry.host}"
    files.put(
        name="Let containerd trust the registry's authority",
        src=StringIO(
            f'server = "{server}"\n\n[host."{server}"]\n'
            f'  capabilities = ["pull", "resolve"]\n  ca = "{authority}"\n'
        ),
        dest=f"{CONTAINERD_HOSTS}/{registry.host}/hosts.toml",
        mode="644",
    )
    option = f'config_path = "{CONTAINERD_HOSTS}"'
    settled(
        name="Let containerd look for registries' authorities",
        test=f"grep -qF '{option}' {CONTAINERD_CONFIG}",
        commands=[
            f"sed -i 's|config_path = \"\"|{option}|' {CONTAINERD_CONFIG}",
            "systemctl restart containerd",
        ],
        because="its configuration names the folder",
    )


def has(registry: Registry, image: str) -> str:
    """Shell command of the host that ends with 0 if the registry has the image."""
    return f"skopeo inspect --raw{_authfile(registry)} docker://{image}"


def push(registry: Registry, archive: str, image: str) -> str:
    """Shell command that copies an archive into the registry."""
    return f"skopeo copy --quiet{_authfile(registry)} docker-archive:{archive} docker://{image}"


def refused(registry: Registry, image: str) -> str:
    """Shell command that fails with a sentence if the registry could not be asked for the image."""
    wrong_login = (
        f"worker_registry: {registry.host} does not let the user {registry.username} in: correct"
        " username and password"
        if registry.password
        else f"worker_registry: {registry.host} wants a login: write username and password"
    )
    wrong_authority = (
        f"worker_registry: the certificate of {registry.host} is of no authority that the host"
        " trusts: write that authority's certificate (PEM) as ca_certificate"
    )
    unknown = f"worker_registry: {registry.host} can't be asked for {image}: "
    return f"""said=$({has(registry, image)} 2>&1 >/dev/null) || case "$said" in
*"manifest unknown"* | *"name unknown"* | *"not found"* | *denied*) ;;
*unauthorized* | *"authentication required"* | *"invalid username/password"*)
    echo {shlex.quote(wrong_login)} >&2; exit 1 ;;
*x509*) echo {shlex.quote(wrong_authority)} >&2; exit 1 ;;
*) echo {shlex.quote(unknown)}"$said" >&2; exit 1 ;;
esac"""


def _authfile(registry: Registry) -> str:
    return f" --authfile={REGISTRY_LOGIN}" if registry.password else ""


def give_cluster_login(settings: HostSettings) -> None:
    """The namespaces of task pods hold the login that pods pull their image with."""
    if not settings.worker.pulls_with_login:
        return
    key = ".dockerconfigjson"
    there = (
        f"get secret {PULL_SECRET} -o jsonpath='{{.data.\\{key}}}' | base64 -d"
        f" | cmp -s - {REGISTRY_LOGIN}"
    )
    create = (
        f"create secret generic {PULL_SECRET} --type=kubernetes.io/dockerconfigjson"
        f" --from-file={key}={REGISTRY_LOGIN} --dry-run=client -o json"
    )
    # On the server's side: kubectl would else write the content into an annotation, too.
    kubectls = [
        f"{settings.kubectl} -n {namespace}" for namespace in settings.kubernetes.namespaces
    ]
    apply = f"{settings.kubectl} apply --server-side --force-conflicts -f - >/dev/null"
    settled(
        name="Give the cluster the registry's login",
        test=" && ".join(f"{kubectl} {there}" for kubectl in kubectls),
        commands=[f"{kubectl} {create} | {apply}" for kubectl in kubectls],
        because="the cluster has it",
    )
