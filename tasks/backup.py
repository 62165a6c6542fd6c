"""Backups, and the way back: to one of them, or to what was before an upgrade."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import lock, postgres, services, tls
from tasks.airflow import CLI, MIGRATED, POD_TEMPLATE, RUN, SECRETS, VENV, url
from tasks.kubernetes import KUBECONFIG, TRIGGERERS_KUBECONFIG
from tasks.operations import settled
from tasks.postgres import DATABASE
from tasks.rotation import JWT_DROP_IN, JWT_KEYS
from tasks.settings import MEMORY, VENVS, Settings

FOLDER = "/var/backups/airflow"
COMMAND = "/usr/local/bin/airflow-backup"
RESTORE = "/usr/local/bin/airflow-restore"
ROLLBACK = "/usr/local/bin/airflow-rollback"
# Of an upgrade that did not come to its end yet; a name of its own keeps a run that was killed from
# making another one of what is half new.
PENDING = f"{FOLDER}/before-upgrade-pending.tar"
KEPT_BEFORE = 3  # of those made before an upgrade, a restore or a rollback
# What the deploy wrote and going back brings back; patterns, from the root.
FILES = [
    "etc/airflow",
    "etc/systemd/system/airflow*",
    f"{CLI.lstrip('/')}*",
    "usr/local/lib/airflow",
]


@deploy("Backup")
def provide(settings: Settings) -> None:
    """The host has the commands that make backups and bring them back."""
    files.directory(name=f"Create {FOLDER}", path=FOLDER, user="root", group="root", mode="700")
    files.template(
        name="Write the command airflow-backup",
        src=f"files{COMMAND}.j2",
        dest=COMMAND,
        mode="755",
        folder=FOLDER,
        database=DATABASE,
        files=FILES,
        migrated=MIGRATED,
        pod_template=POD_TEMPLATE,
        secrets=SECRETS,
        not_kept=[KUBECONFIG, TRIGGERERS_KUBECONFIG, JWT_KEYS, JWT_DROP_IN, tls.FOLDER],
        kept=max(settings.airflow_backups_kept, 1),  # one made by hand is not deleted at once
        kept_before=KEPT_BEFORE,
    )
    files.template(
        name="Write the command airflow-restore",
        src=f"files{RESTORE}.j2",
        dest=RESTORE,
        mode="755",
        folder=FOLDER,
        memory=MEMORY,
        migrated=MIGRATED,
        venvs=VENVS,
        link=VENV,
        node_is_host=settings.node_is_host,
        database=DATABASE,
        url_of_new=url("psycopg2", f"{DATABASE}_new"),
        async_url_of_new=url("psycopg", f"{DATABASE}_new"),
        run=RUN,
        backup=COMMAND,
        units=services.UNITS,
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


@deploy("Upgrade")
def begin(settings: Settings) -> None:
    """Before another version of Airflow or of its packages: it stands still and is backed up.

    From here to the start of its services the tasks that run wait for it.
    """
    settled(
        name="Stop Airflow and back it up",
        test=f"! test -s {MIGRATED} || grep -q '^{settings.venv_key} ' {MIGRATED}",
        commands=[
            f"test -e {PENDING} || {COMMAND} --check",
            f"systemctl stop {' '.join(services.UNITS)}",
            f"test -e {PENDING} || {COMMAND} before-upgrade-pending >/dev/null"
            " || { systemctl start airflow.target; exit 1; }",
        ],
        because="it is installed with these packages",
    )


@deploy("Upgrade")
def end(settings: Settings) -> None:
    """The backup of before the upgrade has its name, now that Airflow runs with the new version."""
    settled(
        name="Keep the backup of before",
        test=f"! test -e {PENDING}",
        commands=[f"mv {PENDING} {FOLDER}/before-upgrade-$(date -u +%Y%m%dT%H%M%SZ).tar"],
        because="there was no upgrade",
    )
