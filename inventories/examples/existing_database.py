"""A PostgreSQL that others run: a managed one, or your own somewhere else."""

import os
from pathlib import Path

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "postgres_provider": "existing",
            # Airflow uses the one that accepts writes. One name is usual: a managed service's name
            # leads to its primary by itself.
            "postgres_hosts": ["db-1.example.com", "db-2.example.com:5433"],
            # An admin made it and both roles, with inventories/database.sql.
            "postgres_database": "airflow",
            "postgres_owner_login": {
                "username": "airflow",
                "password": os.environ["DATABASE_OWNER_PASSWORD"],
            },
            # DAG code uses this login.
            "postgres_dags_login": {
                "username": "airflow-dags",
                "password": os.environ["DATABASE_DAGS_PASSWORD"],
            },
            # Leave it out where the host trusts the server's authority anyway.
            "postgres_ca_certificate": (Path.home() / "our-ca.pem").read_text(),
        },
    )
]
