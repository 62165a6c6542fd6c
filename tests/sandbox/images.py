"""Container images written as a docker-archive, without a registry or a container engine."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

PATH_ENTRY = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """One image: the programs put into it, by their path inside, over an optional base layer."""

    reference: str
    programs: dict[str, Path]
    entrypoint: tuple[str, ...]
    base_layer: Path | None = None


def write_archive(target: Path, images: list[Image], scratch: Path) -> None:
    """Write all images into the one archive `target`, as `podman save -m` would.

    `scratch` is a folder for the layers while they are made. The same programs give the same
    bytes, because all times and owners are zero.
    """
    manifest = []
    with tarfile.open(target, "w") as archive:
        for image in images:
            layers = _layers(image, scratch)
            config = _config(image, layers)
            config_name = hashlib.sha256(config).hexdigest() + ".json"
            _add_bytes(archive, config_name, config)
            names = [_add_layer(archive, layer) for layer in layers]
            manifest.append({"Config": config_name, "RepoTags": [image.reference], "Layers": names})
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())


def _layers(image: Image, scratch: Path) -> list[Path]:
    layer = scratch / "layer.tar"
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as content:
        for inside, program in image.programs.items():
            entry = tarfile.TarInfo(inside.lstrip("/"))
            entry.size = program.stat().st_size
            entry.mode = 0o755
            with program.open("rb") as source:
                content.addfile(entry, source)
    named = scratch / f"{_digest(layer)}.tar"
    layer.rename(named)
    if image.base_layer is None:
        return [named]
    base = scratch / f"{_digest(image.base_layer)}.tar"
    if not base.exists():
        shutil.copyfile(image.base_layer, base)
    return [base, named]


def _config(image: Image, layers: list[Path]) -> bytes:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Env": [PATH_ENTRY], "Entrypoint": list(image.entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.stem}" for layer in layers]},
        "history": [{"created": "1970-01-01T00:00:00Z"} for _ in layers],
    }
    return json.dumps(config, sort_keys=True).encode()


def _add_layer(archive: tarfile.TarFile, layer: Path) -> str:
    name = f"{layer.stem}/layer.tar"
    if name not in archive.getnames():
        entry = tarfile.TarInfo(name)
        entry.size = layer.stat().st_size
        entry.mode = 0o644
        with layer.open("rb") as source:
            archive.addfile(entry, source)
    return name


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    archive.addfile(entry, io.BytesIO(content))


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
