"""Objects of the cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tasks.lib.templates import compiled
from tasks.settings import HostSettings
from tasks.settings.types import Claim

Manifest = dict[str, Any]


class Volume(NamedTuple):
    """A volume of the pod, and how its container mounts it."""

    volume: Manifest
    mount: Manifest


def host_folder(name: str, path: str, *, of_node: str = "", read_only: bool = False) -> Volume:
    """A folder of the node, at the same path in the pod unless the node has it elsewhere."""
    return Volume(
        {"name": name, "hostPath": {"path": of_node or path, "type": "Directory"}},
        {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})},
    )


def claimed(name: str, claim: Claim, path: str, *, read_only: bool = False) -> Volume:
    """A claim's volume, or a folder of it, at a path in the pod."""
    return Volume(
        {"name": name, "persistentVolumeClaim": {"claimName": claim.name}},
        {
            "name": name,
            "mountPath": path,
            **({"subPath": claim.subpath} if claim.subpath else {}),
            **({"readOnly": True} if read_only else {}),
        },
    )


class _Dumper(yaml.SafeDumper):
    """Quotes texts that Kubernetes would read as numbers or booleans, unlike PyYAML: 1e3 and y."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if re.match("[-+.0-9]|[ynYN]$", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(manifest: Manifest) -> str:
    """A manifest as YAML that Airflow and Kubernetes read alike."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False)


def render(template: Path, settings: HostSettings, **more: Any) -> str:
    """A template's text for these settings, and more values of its own."""
    return compiled(template).render(settings=settings, **more)
