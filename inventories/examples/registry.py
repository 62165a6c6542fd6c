"""The built worker image in a registry, for nodes that are not the host."""

import os
from pathlib import Path

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "worker_registry": {
                # The registry's name comes first. The tag names the image's content.
                "repository": "registry.example.com/team/airflow-worker",
                # Leave both out if the registry wants no login.
                "username": "deploy",
                "password": os.environ["REGISTRY_PASSWORD"],
                # Leave it out where the host trusts the registry anyway.
                "ca_certificate": (Path.home() / "our-ca.pem").read_text(),
            },
            "worker_extra_apt_packages": ["jq"],
        },
    )
]
