"""Ask a container registry whether it has an image, as the cluster would."""

from __future__ import annotations

import json
import re
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

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
            first, rest = "registry-1.docker.io", name if slash else f"library/{name}"
        elif first in ("docker.io", "index.docker.io"):
            first, rest = "registry-1.docker.io", rest if "/" in rest else f"library/{rest}"
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
