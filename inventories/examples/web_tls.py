"""The web page for others, with your own certificate."""

import os
from pathlib import Path

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "web_host": "0.0.0.0",
            "web_base_url": "https://airflow.example.com",
            # Both as PEM. To renew the certificate, deploy with the new one.
            "web_certificate": {
                # Followed by the certificates between it and its authority.
                "certificate": (Path.home() / "airflow.example.com.pem").read_text(),
                # Without a passphrase.
                "key": os.environ["AIRFLOW_TLS_KEY"],
            },
        },
    )
]
