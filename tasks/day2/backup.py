"""Backups, and the way back: to one of them, or to what was before an upgrade."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.airflow import services
from tasks.airflow.database import url
from tasks.host import postgres
from tasks.layout import (
    BACKUP,
    BACKUPS,
    CLI,
    DATABASE,
    JWT_DROP_IN,
    JWT_KEYS,
    KUBECONFIG,
    MIGRATED,
    POD_TEMPLATE,
    RESTORE,
    ROLLBACK,
    RUN,
    SECRETS,
    STATE,
    TRIGGERERS_KUBECONFIG,
    VENV,
    VENVS,
)
from tasks.lib import lock
from tasks.settings import HostSettings

KEPT_BEFORE = 3  # of those made before an upgrade, a restore or a rollback
# What the deploy wrote and going back brings back; patterns, from the root.
FILES = [
    "etc/airflow",
    "etc/systemd/system/airflow*",
    f"{CLI.lstrip('/')}*",
    "usr/local/lib/airflow",
]


@deploy("Backup")
def install(settings: HostSettings) -> None:
    """The host has the commands that make backups and bring them back."""
    files.directory(name=f"Create {BACKUPS}", path=BACKUPS, user="root", group="root", mode="700")
    files.template(
        name="Write the command airflow-backup",
        src=f"files{BACKUP}.j2",
        dest=BACKUP,
        mode="755",
        folder=BACKUPS,
        database=DATABASE,
        files=FILES,
        migrated=MIGRATED,
        pod_template=POD_TEMPLATE,
        secrets=SECRETS,
        not_kept=[KUBECONFIG, TRIGGERERS_KUBECONFIG, JWT_KEYS, JWT_DROP_IN, layout.TLS],
        kept=max(settings.retention.backups, 1),  # one made by hand is not deleted at once
        kept_before=KEPT_BEFORE,
    )
    files.template(
        name="Write the command airflow-restore",
        src=f"files{RESTORE}.j2",
        dest=RESTORE,
        mode="755",
        folder=BACKUPS,
        memory=STATE,
        migrated=MIGRATED,
        venvs=VENVS,
        link=VENV,
        node_is_host=settings.node_is_host,
        database=DATABASE,
        url_of_new=url("psycopg2", f"{DATABASE}_new"),
        async_url_of_new=url("psycopg", f"{DATABASE}_new"),
        run=RUN,
        backup=BACKUP,
        units=layout.UNITS,
        jwt_keys=JWT_KEYS,
        take_lock=lock.taking(),
        grant=postgres.grant(f"{DATABASE}_new"),
        becomes_healthy=services.becomes_healthy(settings),
    )
    files.link(
        name="Link the command airflow-rollback to it",
        path=ROLLBACK,
        target=RESTORE,
    )
