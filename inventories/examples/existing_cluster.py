"""Task pods in a cluster that exists: no minikube, and nothing shared with the nodes."""

import os
from pathlib import Path

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "kubernetes_provider": "existing",
            # On the host, complete in itself: the output of
            # `kubectl config view --minify --flatten --raw` where kubectl works now.
            "kubernetes_kubeconfig": "/root/cluster.yaml",
            # Without it: the kubeconfig's current context.
            "kubernetes_context": "production",
            # The deploy owns this namespace.
            "kubernetes_namespace": "airflow",
            # How pods reach port 8081 of this host; a firewall in between must allow it.
            "execution_api_host": "airflow.example.com",
            # The nodes do not see the host's files, so image, DAGs and logs take other ways.
            "worker_registry": {"repository": "registry.example.com/team/airflow-worker"},
            "dags_source": "image",
            "dags_local_folder": str(Path.home() / "dags"),
            "logs_store": "s3",
            "logs_s3": {"folder": "s3://my-bucket/airflow", "connection": "s3_logs"},
            "airflow_connections": {
                "s3_logs": {
                    "conn_type": "aws",
                    "login": os.environ["S3_ACCESS_KEY"],
                    "password": os.environ["S3_SECRET_KEY"],
                    "extra": {"region_name": "eu-central-1"},
                },
            },
        },
    )
]
