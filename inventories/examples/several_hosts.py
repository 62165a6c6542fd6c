"""Two hosts that are one Airflow, with their database and their cluster on a third one."""

import os

# The name of the group says that its hosts belong together; the first one does all work that is
# needed once.
airflow = [
    (
        name,
        {
            "ssh_user": "ops",
            "_sudo": True,
            # The nodes do not see the hosts' files, so image, DAGs and logs take other ways, which
            # both hosts share.
            "worker_registry": {"repository": "registry.example.com/team/airflow-worker"},
            "dags_source": "git",
            "dags_git_bundles": {"team": {"url": "https://git.example.com/dags.git"}},
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
            # A free address, which one of them has. Where the network lets no machine take it,
            # leave it out: then the name has the addresses of both, or of a balancer.
            "web_host": "0.0.0.0",
            "web_virtual_address": "192.0.2.10",
            "web_base_url": "https://airflow.example.com",
        },
    )
    for name in ("airflow-1.example.com", "airflow-2.example.com")
]
# The deploy sets PostgreSQL up on the host of the group `database`, and minikube on that of the
# group `cluster`, for the hosts above and nobody else. Both can be one host, as here, or two. For a
# database or a cluster that others run, leave the group out, and write its settings above.
database = cluster = [
    (
        "base-1.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # The node keeps 2 GiB of memory free of pods, for PostgreSQL and the rest of the host.
            "postgres_config": {"shared_buffers": "512MB", "effective_cache_size": "1GB"},
        },
    ),
]
