"""DAGs from git repositories, one with a deploy key, one with a token, one public."""

import os

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # No folder beside the repositories. Leave it out to keep /opt/airflow/dags as well.
            "dags_source": "git",
            "dags_git_bundles": {
                "team": {
                    "url": "ssh://git@git.example.com/team/dags.git",
                    "branch": "main",
                    # DAGs are in this folder of the repository.
                    "folder": "dags",
                    # How often the host looks for new commits.
                    "refresh_seconds": 60,
                    "connection": "git_team",
                },
                "partner": {
                    "url": "https://git.example.com/partner/dags.git",
                    "connection": "git_partner",
                },
                # A public repository needs no connection.
                "public": {"url": "https://git.example.com/public/dags.git"},
            },
            # A key or token belongs here and never into a url, which every pod would show.
            "airflow_connections": {
                "git_team": {
                    "conn_type": "git",
                    "extra": {
                        "private_key": os.environ["GIT_DEPLOY_KEY"],
                        # A pod does not know the keys of hosts.
                        "strict_host_key_checking": "accept-new",
                    },
                },
                "git_partner": {
                    "conn_type": "git",
                    "login": "deploy",
                    "password": os.environ["GIT_TOKEN"],
                },
            },
        },
    )
]
