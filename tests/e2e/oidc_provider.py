"""A company's provider of logins with OpenID Connect: canaille; runs on the test machine.

It runs in the folder with given.json, which says whom it knows, and with server.crt and server.key.
All of it is in memory, so each start begins with nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def settings(address: str, key: dict[str, str]) -> dict[str, Any]:
    """The provider's configuration."""
    return {
        "SECRET_KEY": key["d"],
        "SERVER_NAME": address,
        "PREFERRED_URL_SCHEME": "https",
        # Its forms work without scripts, so a test can fill them in.
        "CANAILLE": {"DATABASE": "memory", "JAVASCRIPT": False, "HTMX": False},
        "CANAILLE_OIDC": {
            "ACTIVE_JWKS": [key],
            "USERINFO_MAPPING": {"PREFERRED_USERNAME": "{{ user.user_name }}"},
        },
    }


def fill(given: dict[str, Any]) -> None:
    """Let the provider know the people, their groups, and Airflow."""
    from canaille.app import models
    from canaille.backends import Backend

    backend = Backend.instance
    with backend.session():
        people = {
            name: models.User(
                user_name=name,
                formatted_name=name.title(),
                given_name=name.title(),
                family_name="Test",
                emails=[f"{name}@example.com"],
                password=given["password"],
            )
            for name in given["people"]
        }
        for person in people.values():
            backend.save(person)
        # A group takes only people who are known.
        for group, member in given["groups"].items():
            backend.save(models.Group(display_name=group, members=[people[member]]))
        client = models.Client(
            client_id=given["client"],
            client_secret=given["client_secret"],
            client_name="Airflow",
            client_id_issued_at=datetime.now(UTC),
            redirect_uris=[given["redirect"]],
            grant_types=["authorization_code"],
            response_types=["code"],
            scope=["openid", "profile", "email", "groups"],
            token_endpoint_auth_method="client_secret_basic",
        )
        backend.save(client)


def main() -> None:
    """Answer until somebody ends it."""
    from canaille import create_app
    from joserfc.jwk import RSAKey
    from werkzeug.serving import run_simple

    given = json.loads(Path("given.json").read_text())
    key = RSAKey.generate_key(2048).as_dict(private=True)
    app = create_app(settings(given["address"], key))
    with app.app_context():
        fill(given)
    port = int(given["address"].rpartition(":")[2])
    run_simple("0.0.0.0", port, app, threaded=True, ssl_context=("server.crt", "server.key"))


if __name__ == "__main__":
    main()
