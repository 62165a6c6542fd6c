"""Answers that only Airflow's own Python has: its options in force, how it merges pairs of pods
(the first with the second), and which variables it hides. Its argument is all three as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow._shared.secrets_masker import (  # type: ignore[import-not-found]
    should_hide_value_for_key,
)
from airflow.configuration import conf  # type: ignore[import-not-found]
from airflow.providers.cncf.kubernetes.pod_generator import (  # type: ignore[import-not-found]
    PodGenerator,
)

GIVEN = json.loads(sys.argv[1])


def model(manifest: dict[str, Any]) -> Any:
    """A manifest as the client's model; a pod that is merged in must have containers there."""
    if "spec" in manifest:
        spec = {"containers": [{"name": "base"}], **manifest["spec"]}
        manifest = {**manifest, "spec": spec}
    return PodGenerator.deserialize_model_dict(manifest)


answer = {
    "options": [conf.get(section, name, fallback=None) for section, name in GIVEN["options"]],
    "pods": [
        PodGenerator.serialize_pod(PodGenerator.reconcile_pods(model(base), model(more)))
        for base, more in GIVEN["pods"]
    ],
    "hidden": [name for name in GIVEN["variables"] if should_hide_value_for_key(name)],
}
print(json.dumps(answer))
