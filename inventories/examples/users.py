"""Users of the web page with passwords, and a role of their own."""

import os

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "web_host": "0.0.0.0",
            "web_roles": {
                # May look at DAGs, their runs and their logs, and start a run, for which Airflow
                # wants the right to edit the DAG, too.
                "starter": {
                    "DAGs": ["read", "edit", "menu"],
                    "DAG Runs": ["read", "create", "menu"],
                    "Task Instances": ["read", "menu"],
                    "Task Logs": ["read"],
                    "Browse": ["menu"],
                },
            },
            "web_users": {
                # The host makes the first password: sudo cat /etc/airflow/secrets/users/ada
                "ada": {"roles": ["Op"], "email": "ada@example.com"},
                "sam": {"roles": ["starter"], "first_name": "Sam", "last_name": "Moss"},
                # A program that asks the REST API.
                "reports": {"roles": ["Viewer"], "password": os.environ["REPORTS_PASSWORD"]},
            },
        },
    )
]
