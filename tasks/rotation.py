"""New keys and passwords in place of those that are in use: the command airflow-rotate."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import kubernetes, lock, services, smoke
from tasks.airflow import ADMIN_PASSWORD, RUN, SECRETS, making_secrets, typing
from tasks.settings import Settings

COMMAND = "/usr/local/bin/airflow-rotate"
# While the jwt-secret changes: the keys that the api-server accepts, and what tells it so.
JWT_KEYS = f"{SECRETS}/jwt-keys"
JWT_DROP_IN = f"{services.UNITS_DIRECTORY}/airflow-api-server.service.d/jwt-keys.conf"


@deploy("Rotation")
def provide(settings: Settings) -> None:
    """The host has the command that changes keys and passwords."""
    files.template(
        name="Write the command airflow-rotate",
        src=f"files{COMMAND}.j2",
        dest=COMMAND,
        mode="755",
        settings=settings,
        secrets=SECRETS,
        new=making_secrets(),
        run=RUN,
        units=[service.unit for service in services.SERVICES],
        runs_with_inputs=services.runs_with_inputs("$unit"),
        started_with=services.STARTED_WITH,
        becomes_healthy=services.becomes_healthy(settings),
        take_lock=lock.taking(),
        jwt_keys=JWT_KEYS,
        jwt_drop_in=JWT_DROP_IN,
        kubeconfig=kubernetes.KUBECONFIG,
        replace_accounts=kubernetes.replacing_accounts(settings),
        write_kubeconfigs=" && ".join(
            f"( {kubernetes.writing_kubeconfig(settings, account)} )"
            for account in kubernetes.accounts(settings)
        ),
        prove=f"{smoke.COMMAND} >/dev/null && {smoke.REMEMBER}",
        set_password=typing(
            f"{ADMIN_PASSWORD}.new",
            f"users reset-password --username {settings.airflow_admin_user}",
        ),
    )
