"""The deploy's own DAGs, the smoke test's and the examples, and their way to the pods."""

from __future__ import annotations

from pathlib import Path

from tasks.layout import BUILTIN_DAGS_CONFIG_MAP, ROOT
from tasks.lib.manifests import Manifest
from tasks.settings import HostSettings

EXAMPLES = ROOT / "files/opt/airflow/dags"


def shipped(settings: HostSettings) -> dict[str, Path]:
    """The deploy's own DAGs that the settings want: the smoke test's and the examples."""
    return {
        path.name: path for path in sorted(EXAMPLES.glob("*.py")) if wanted(path.stem, settings)
    }


def wanted(dag: str, settings: HostSettings) -> bool:
    """Whether the host should have one of the deploy's own DAGs. An example needs the settings that
    it shows."""
    needed = {
        "airflow_smoke_test": settings.airflow.smoke_test,
        "example_pod_operator": settings.airflow.examples and settings.kubernetes.pod_operator,
        "example_rest_to_s3": settings.airflow.examples
        and {"example_rest", "example_s3"} <= settings.airflow.connections.keys(),
    }
    return needed.get(dag, settings.airflow.examples)


def bundled(settings: HostSettings) -> dict[str, Path]:
    """The DAGs of the deploy's own bundle."""
    return {} if settings.dags.source == "host" else shipped(settings)


def objects(settings: HostSettings) -> list[Manifest]:
    """The objects that the cluster needs for the pods' volumes."""
    if not (files := bundled(settings)):
        return []
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": BUILTIN_DAGS_CONFIG_MAP, "namespace": namespace},
            "data": {name: path.read_text() for name, path in files.items()},
        }
        for namespace in settings.kubernetes.namespaces
    ]
