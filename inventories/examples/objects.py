"""Connections, variables and pools, among them those that the DAG example_rest_to_s3 needs."""

import os

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # The deploy corrects the objects that are named here, and leaves others alone.
            "airflow_connections": {
                "warehouse": {
                    "conn_type": "postgres",
                    "host": "db.example.com",
                    "port": 5432,
                    "schema": "facts",
                    "login": "airflow",
                    "password": os.environ["WAREHOUSE_PASSWORD"],
                },
                # With these two the deploy brings the DAG example_rest_to_s3: it asks a REST
                # service, writes the answer to S3 and checks it. Each step is a pod.
                "example_rest": {
                    "conn_type": "https",
                    "host": "api.example.com",
                    "port": 443,
                    "password": os.environ["REST_TOKEN"],
                },
                "example_s3": {
                    "conn_type": "aws",
                    "login": os.environ["S3_ACCESS_KEY"],
                    "password": os.environ["S3_SECRET_KEY"],
                    "extra": {"endpoint_url": "https://s3.example.com"},
                },
            },
            "airflow_variables": {"region": "north", "example_bucket": "my-bucket"},
            # At most four tasks at a time use the warehouse.
            "airflow_pools": {"warehouse": {"slots": 4, "description": "Queries"}},
        },
    )
]
