"""Your own worker image: the deploy builds none."""

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # Its python must have the host's Airflow version, and be 3.11 for a host with Debian 12
            # or 3.13 for Debian 13. A pod checks this once for each name: change the tag with the
            # content.
            "worker_image": "registry.example.com/team/airflow:3.3.2-7",
        },
    )
]
