"""DAGs in the worker image: a running task keeps the version that it began with."""

from pathlib import Path

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # Each deploy puts this folder into a thin layer of the image: no build for new DAGs.
            "airflow_dags_source": "image",
            "airflow_dags_from": str(Path.home() / "dags"),
            # A return to older DAGs builds nothing as long as their image is kept.
            "worker_images_kept": 5,
        },
    )
]
