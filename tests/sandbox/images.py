"""Container images written as a docker-archive, without a registry or a container engine."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.common import ARCHITECTURE

PATH_ENTRY = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """One image: a program, started at its path inside, over an optional base layer."""

    reference: str
    inside: str
    program: Path
    base_layer: Path | None = None
    arguments: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    stop_signal: str | None = None


def write_archive(target: Path, images: list[Image]) -> None:
    """Write all images into the one archive `target`, as `podman save -m` would.

    The same programs give the same bytes, because all times and owners are zero.
    """
    manifest = []
    scratch = target.with_name(target.name + ".layer")
    with tarfile.open(target, "w") as archive:
        for image in images:
            with tarfile.open(scratch, "w", format=tarfile.PAX_FORMAT) as layer:
                _add_file(layer, image.inside.lstrip("/"), image.program, 0o755)
            layers = [path for path in (image.base_layer, scratch) if path]
            digests = [_digest(path) for path in layers]
            config = _config(image, digests)
            config_name = hashlib.sha256(config).hexdigest() + ".json"
            _add_bytes(archive, config_name, config)
            names = [f"{digest}/layer.tar" for digest in digests]
            for name, path in zip(names, layers, strict=True):
                _add_file(archive, name, path, 0o644)
            manifest.append({"Config": config_name, "RepoTags": [image.reference], "Layers": names})
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())
    scratch.unlink()


def _config(image: Image, digests: list[str]) -> bytes:
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": [PATH_ENTRY, *image.environment],
            "Entrypoint": [image.inside, *image.arguments],
            **({"StopSignal": image.stop_signal} if image.stop_signal else {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": "1970-01-01T00:00:00Z"} for _ in digests],
    }
    return json.dumps(config, sort_keys=True).encode()


def _add_file(archive: tarfile.TarFile, name: str, path: Path, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = path.stat().st_size
    entry.mode = mode
    with path.open("rb") as content:
        archive.addfile(entry, content)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    archive.addfile(entry, io.BytesIO(content))


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
