"""The web page for others, with a certificate that the host makes."""

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # All addresses of the host; "192.0.2.7" would be that one only.
            "web_host": "0.0.0.0",
            "web_base_url": "https://airflow.example.com",
            # Other names and addresses that people type.
            "web_host_names": ["airflow", "10.1.2.3"],
            "web_logins_per_minute": 10,
            # Browsers trust the certificate once they know /etc/airflow/tls/ca.pem of the host.
        },
    )
]
