"""DAGs in the worker image: a running task keeps the version that it began with."""

from pathlib import Path

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # Each deploy puts this folder into a thin layer of the image: no build for new DAGs.
            "dags_source": "image",
            "dags_local_folder": str(Path.home() / "dags"),
            # A return to older DAGs builds nothing as long as their image is kept.
            "retention_worker_images": 5,
        },
    )
]
