"""Prints what Airflow makes of pairs of pods (its argument, JSON): the first with the second."""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import (  # type: ignore[import-not-found]
    PodGenerator,
)


def model(manifest: dict[str, Any]) -> Any:
    """A manifest as the client's model; a pod that is merged in must have containers there."""
    if "spec" in manifest:
        spec = {"containers": [{"name": "base"}], **manifest["spec"]}
        manifest = {**manifest, "spec": spec}
    return PodGenerator.deserialize_model_dict(manifest)


merged = [
    PodGenerator.serialize_pod(PodGenerator.reconcile_pods(model(base), model(more)))
    for base, more in json.loads(sys.argv[1])
]
print(json.dumps(merged))
