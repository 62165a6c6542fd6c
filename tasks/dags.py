"""Where DAGs come from: the same bundles for the dag-processor on the host and for the pods."""

from __future__ import annotations

import json

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.pods import Volume, host_folder
from tasks.settings import ROOT, Settings

FOLDER = "/opt/airflow/dags"  # in pods, and on the host unless a claim has its own place there
EXAMPLES = ROOT / "files/opt/airflow/dags"


def bundles() -> str:
    """The DAG bundles, for host and pods alike: they must agree on names."""
    return json.dumps(
        [
            {
                "name": "dags-folder",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"refresh_interval": 30},  # seconds until a new file is seen
            }
        ]
    )


def volume(settings: Settings) -> Volume:
    """What a pod mounts to have the DAGs."""
    return host_folder("dags", FOLDER, read_only=True)


@deploy("DAGs")
def provide(settings: Settings) -> None:
    """The smoke test's DAG and the examples are among the DAGs."""
    for path in sorted(EXAMPLES.glob("*.py")):
        if wanted(path.stem, settings):
            files.put(
                name=f"Write the DAG {path.stem}",
                src=str(path),
                dest=f"{FOLDER}/{path.name}",
                user="root",
                group="airflow",
                mode="644",
            )
        else:
            files.file(
                name=f"Remove the DAG {path.stem}",
                path=f"{FOLDER}/{path.name}",
                present=False,
            )


def wanted(dag: str, settings: Settings) -> bool:
    """Whether one of the deploy's own DAGs is to be there: an example needs what it shows."""
    needed = {
        "airflow_smoke_test": settings.airflow_smoke_test,
        "example_pod_operator": settings.airflow_examples and settings.kubernetes_pod_operator,
        "example_rest_to_s3": settings.airflow_examples
        and {"example_rest", "example_s3"} <= settings.airflow_connections.keys(),
    }
    return needed.get(dag, settings.airflow_examples)
