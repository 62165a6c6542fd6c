"""An endpoint for Prometheus with figures of Airflow and of PostgreSQL."""

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # http://airflow.example.com:9187/metrics, for everybody who reaches the port.
            # Alerts for it: files/etc/prometheus/airflow.rules.yaml
            "metrics_port": 9187,
        },
    )
]
