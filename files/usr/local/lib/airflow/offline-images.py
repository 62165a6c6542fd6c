#!/usr/bin/python3 -B
"""offline-images.py check|apply FOLDER: minikube's cache has the images of FOLDER/images.tar.

From there it brings them into a node that is not the host. Written by the deploy of Airflow.
"""

from __future__ import annotations

import io
import json
import platform
import sys
import tarfile
from pathlib import Path
from typing import Any

from lib import fail, usage

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CACHE = Path("/root/.minikube/cache/images", ARCHITECTURES[platform.machine()])


def place(reference: str) -> Path:
    """The file in which minikube looks for an image."""
    return CACHE / reference.replace(":", "_")


def missing(manifest: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The images that the cache lacks, each with its entry in the archive."""
    named = [(reference, image) for image in manifest for reference in image["RepoTags"]]
    return [(reference, image) for reference, image in named if not place(reference).exists()]


def write(source: tarfile.TarFile, reference: str, image: dict[str, Any]) -> None:
    """Write an archive of one image; it appears whole."""
    final = place(reference)
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = final.with_name(f"{final.name}.new")
    with tarfile.open(draft, "w") as target:
        for name in dict.fromkeys([image["Config"], *image["Layers"]]):
            content = source.extractfile(name)  # follows a link to a layer that images share
            assert content
            entry = tarfile.TarInfo(name)
            entry.size = content.seek(0, io.SEEK_END)
            content.seek(0)
            target.addfile(entry, content)
        manifest = json.dumps([image | {"RepoTags": [reference]}]).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(manifest)
        target.addfile(entry, io.BytesIO(manifest))
    draft.rename(final)


def main() -> None:
    """Compare, or write the images that the cache lacks."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("check", "apply"):
        usage()
    _, action, folder = sys.argv
    with tarfile.open(f"{folder}/images.tar") as source:
        content = source.extractfile("manifest.json")
        assert content
        lacks = missing(json.load(content))
        if action == "check" and lacks:
            fail(f"minikube's cache lacks {lacks[0][0]}")
        for reference, image in lacks:
            write(source, reference, image)


if __name__ == "__main__":
    main()
