"""Task logs in an S3 bucket, at AWS or in any store that speaks S3."""

import os

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "logs_store": "s3",
            # The bucket must exist, and expires old logs itself.
            "logs_s3": {"folder": "s3://my-bucket/airflow", "connection": "s3_logs"},
            "airflow_connections": {
                "s3_logs": {
                    "conn_type": "aws",
                    "login": os.environ["S3_ACCESS_KEY"],
                    "password": os.environ["S3_SECRET_KEY"],
                    # Leave out the endpoint for AWS itself.
                    "extra": {
                        "endpoint_url": "https://s3.example.com",
                        "region_name": "eu-central-1",
                    },
                },
            },
        },
    )
]
