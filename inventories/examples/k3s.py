"""Task pods in k3s on the same host, or in a cluster of k3s elsewhere."""

import os
from pathlib import Path

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "kubernetes_provider": "existing",
            # Where k3s writes it on its servers; its context is "default". For a cluster elsewhere,
            # copy the file here and write the server's address in place of 127.0.0.1.
            # On the same host, k3s' Traefik has the ports 80 and 443: for a web page that others
            # reach, start k3s with --disable=traefik, or write another web_https_port.
            "kubernetes_kubeconfig": "/etc/rancher/k3s/k3s.yaml",
            # The address of this host, since k3s enforces the policy, which has addresses only.
            "execution_api_host": "10.0.0.5",
            "kubernetes_network_policy": True,
            "kubernetes_allowed_networks": ["10.0.0.0/8"],
            # k3s has a containerd of its own, so the image goes through a registry. k3s learns the
            # authority of a private one from /etc/rancher/k3s/registries.yaml.
            "worker_registry": {
                "repository": "registry.example.com/team/airflow-worker",
                "username": "deploy",
                "password": os.environ["REGISTRY_PASSWORD"],
            },
            "dags_source": "image",
            "dags_local_folder": str(Path.home() / "dags"),
            # k3s' class local-path keeps a claim on one node, where Airflow would not see it.
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
