"""Another host, reached by SSH as a user with sudo. Copy this one if you are not sure."""

hosts = [
    (
        "airflow.example.com",
        {
            # How pyinfra reaches the host. It also knows ssh_port, ssh_key and ssh_hostname.
            "ssh_user": "ops",
            "_sudo": True,
            # Serve the web page to others, over TLS, under the name that they type.
            "web_host": "0.0.0.0",
            "web_base_url": "https://airflow.example.com",
            # Packages that your DAGs import and call, on the host and in task pods.
            "airflow_extra_requirements": ["apache-airflow-providers-http", "pandas>=2"],
            "worker_extra_apt_packages": ["jq", "libpq5"],
            # Room for each task: the request reserves it, the limit ends a task that takes more.
            "worker_resources": {
                "requests": {"cpu": "500m", "memory": "1Gi"},
                "limits": {"memory": "2Gi"},
            },
            # Any option of airflow.cfg, by section. Values are text.
            "airflow_config": {"core": {"parallelism": "8"}},
        },
    )
]
