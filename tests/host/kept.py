"""The files in which a host keeps secrets, and how their values are written there.

Written by hand, as expected.py: a file that the deploy keeps in another place must be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.given import searched_for, values

MADE = ("fernet-key", "jwt-secret", "api-secret-key", "admin-password", "smoke-test-password")
# Folders in which every file is a secret, unless a reason is known.
FOLDERS = [
    "/etc/airflow/secrets",
    "/etc/airflow/tls",
    *(f"/etc/airflow/kubeconfig{whose}.d" for whose in ("", "-renewal", "-triggerer")),
]


class Kept(NamedTuple):
    """A secret of the host's own: how it is written, and where."""

    kind: str
    path: str
    when: expected.Condition = expected.always


KEPT = [
    *(Kept("secret", f"/etc/airflow/secrets/{name}") for name in MADE),
    Kept("secret", "/var/lib/airflow-deploy/backup-key"),
    Kept("token", "/etc/airflow/kubeconfig.d/token"),
    Kept("token", "/etc/airflow/kubeconfig-renewal.d/token"),
    Kept("token", "/etc/airflow/kubeconfig-triggerer.d/token", expected.has_pod_operator),
    Kept("key", "/etc/airflow/tls/ca-key.pem"),
    Kept("key", "/etc/airflow/tls/server.pem"),
    Kept("key", "/etc/airflow/tls/web.pem", expected.page_has_own_certificate),
    # Of the cluster's administrator, and of its authority.
    Kept("key", "/root/.minikube/profiles/minikube/client.key", expected.node_is_this_host),
    Kept("key", "/var/lib/minikube/certs/ca.key", expected.node_is_this_host),
]
# Files of the inventory's secrets, or of a change that is under way, by their kind.
SOMETIMES = {
    "/etc/airflow/secrets/users.json": "users",
    "/etc/airflow/secrets/users/*": "secret",  # passwords that the host made
    "/etc/airflow/secrets/netrc": "netrc",
    "/etc/airflow/secrets/registry-login.json": "registry",
    "/etc/airflow/secrets/jwt-keys": "jwks",
    "/etc/airflow/database-*.login": "libpq",
}
# Files in those folders whose values are not searched for.
NOT_SEARCHED = {
    "/etc/airflow/secrets/objects.json": "its values are known by their names in the inventory",
    "/etc/airflow/tls/ca.pem": "people trust the authority, so they have its certificate",
    "/etc/airflow/tls/pods-ca.pem": "pods have it",
    "/etc/airflow/tls/*.new": "the next certificate is made with another key",
}


def search(settings: HostSettings) -> dict[str, Any]:
    """The secrets to search for, as on_host/secrets.py takes it."""
    searched = searched_for(settings)
    return {
        "folders": FOLDERS,
        "kinds": {row.path: row.kind for row in KEPT} | SOMETIMES,
        "objects": {value.name: value.path for value in searched if value.path},
        "left_out": [value.name for value in values(settings) if value not in searched],
    }


def made(settings: HostSettings) -> Iterator[str]:
    """The files of the host's own secrets, which must be there."""
    yield from (row.path for row in expected.wanted(KEPT, settings))
    for name, user in settings.web.users.items():
        if user.password is None:
            yield f"/etc/airflow/secrets/users/{name}"


def reason(path: str) -> str:
    """The reason why the values of a file are not searched for; empty if there is none."""
    return next((why for at, why in NOT_SEARCHED.items() if fnmatchcase(path, at)), "")
