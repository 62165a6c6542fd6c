"""People log in with the company's OpenID Connect; their groups decide about their roles."""

import os

LOGIN = """
from flask_appbuilder.const import AUTH_OAUTH

AUTH_TYPE = AUTH_OAUTH
AUTH_USER_REGISTRATION = True
AUTH_USER_REGISTRATION_ROLE = "Public"  # without a group: may see nothing
AUTH_ROLES_SYNC_AT_LOGIN = True
AUTH_ROLES_MAPPING = {"airflow-admins": ["Admin"], "airflow-readers": ["Viewer"]}
OAUTH_PROVIDERS = [
    {
        "name": "company",
        "icon": "fa-key",
        "token_key": "access_token",
        "remote_app": {
            "client_id": "airflow",
            "client_secret": %r,
            "server_metadata_url": "https://login.example.com/.well-known/openid-configuration",
            "client_kwargs": {
                "scope": "openid email profile groups",
                "verify": "/etc/ssl/certs/ca-certificates.crt",
            },
        },
    }
]
"""

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "web_host": "0.0.0.0",
            # The provider sends people back to
            # https://airflow.example.com/auth/oauth-authorized/company
            "web_base_url": "https://airflow.example.com",
            "airflow_extra_requirements": ["authlib"],
            "web_login_config": LOGIN % os.environ["OIDC_CLIENT_SECRET"],
            # A program that asks the REST API has a password.
            "web_users": {"reports": {"roles": ["Viewer"], "password": os.environ["REPORTS"]}},
        },
    )
]
