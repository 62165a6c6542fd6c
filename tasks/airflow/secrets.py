"""Airflow's keys, and the password of the web page's first user.

Each has a file of its own, so that each unit is given only those that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra.api import deploy

from tasks.lib import members
from tasks.lib.operations import ensure
from tasks.settings import HostSettings

# The keys that each process holds, and why. With jwt-secret a process can act as any task or user,
# with api-secret-key it can log in as any user, so neither may be where the code of DAGs runs. The
# reasons name Airflow's source. Without a key, Airflow makes one at each start, which stays unused.
NEEDED: Mapping[str, Mapping[str, str]] = {
    "api-server": {
        "fernet-key": "shows and writes connections and variables, also for tasks",
        "jwt-secret": "makes and checks the tokens of users and tasks: api_fastapi/auth/tokens.py",
        "api-secret-key": "signs sessions of the login (fab/www/app.py), and tokens of the page",
    },
    "scheduler": {
        "fernet-key": "encrypts the arguments of callbacks: models/trigger.py",
        "jwt-secret": "makes the tokens of tasks: executors/base_executor.py",
    },
    "dag-processor": {
        "fernet-key": "DAGs may ask for connections and variables while they are read",
    },
    "triggerer": {
        "fernet-key": "decrypts the arguments of triggers; these ask for connections",
    },
    # files/usr/local/lib/airflow/run
    "command line": {
        "fernet-key": "shows, writes and encrypts again connections and variables",
    },
}


@deploy("Airflow")
def create(settings: HostSettings) -> None:
    """Each secret has its file; existing files stay. A lost secret that data needs is an error.

    Of several hosts the first one makes them, and the others have the same.
    """
    if settings.is_first:
        ensure(
            name="Make the secrets that are missing",
            program="secrets.sh",
            already="all secrets were made before",
        )
    if settings.members:
        members.copy_from_first(name="Copy the secrets of the first host", kind="secrets")
