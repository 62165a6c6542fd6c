"""New keys and passwords in place of those that are in use: the command airflow-rotate."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.airflow import services
from tasks.airflow.secrets import commands, with_password
from tasks.cluster import access
from tasks.day2 import smoke_test
from tasks.layout import ADMIN_PASSWORD, JWT_DROP_IN, JWT_KEYS, ROTATE, RUN, SECRETS
from tasks.lib import lock, systemd
from tasks.settings import HostSettings


@deploy("Rotation")
def install(settings: HostSettings) -> None:
    """The host has the command that changes keys and passwords."""
    files.template(
        name="Write the command airflow-rotate",
        src=f"files{ROTATE}.j2",
        dest=ROTATE,
        mode="755",
        settings=settings,
        secrets=SECRETS,
        new=commands(),
        run=RUN,
        units=[service.unit for service in services.SERVICES],
        runs_with_inputs=systemd.runs_with_inputs("$unit"),
        started_with=layout.STARTED_WITH,
        becomes_healthy=services.becomes_healthy(settings),
        take_lock=lock.taking(),
        jwt_keys=JWT_KEYS,
        jwt_drop_in=JWT_DROP_IN,
        kubeconfig=layout.KUBECONFIG,
        replace_accounts=access.replacing_accounts(settings),
        write_kubeconfigs=" && ".join(
            f"( {access.writing_kubeconfig(settings, account)} )"
            for account in access.accounts(settings)
        ),
        prove=f"{layout.SMOKE_TEST} >/dev/null && {smoke_test.REMEMBER}",
        set_password=with_password(
            f"{ADMIN_PASSWORD}.new",
            f"users reset-password --username {settings.web.admin_user}",
        ),
    )
