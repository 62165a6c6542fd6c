"""DAGs from a folder on your machine, copied to the host by each deploy."""

from pathlib import Path

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # The deploy copies the folder into /opt/airflow/dags. It removes copied files that are
            # gone from the folder, and leaves files of others alone.
            "dags_local_folder": str(Path.home() / "dags"),
            # Your own DAGs only; the smoke test's DAG stays.
            "airflow_examples": False,
        },
    )
]
