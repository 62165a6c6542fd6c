"""The proof that it all works: a tiny DAG run as a pod, once for each state of the inputs."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import logs, proxy, tls
from tasks.airflow import ADMIN_PASSWORD, CONFIG, POD_TEMPLATE
from tasks.dags import bundle_of_own
from tasks.kubernetes import KUBECONFIG
from tasks.objects import WANTED as OBJECTS
from tasks.operations import settled
from tasks.services import SERVICES, UNITS_DIRECTORY
from tasks.settings import MEMORY, Settings

COMMAND = "/usr/local/bin/airflow-smoke-test"
PASSED = f"{MEMORY}/smoke-test-passed"
_INPUTS = [
    *(CONFIG, POD_TEMPLATE, KUBECONFIG, OBJECTS, proxy.SITE, tls.AUTHORITY),
    *(f"{UNITS_DIRECTORY}/{service.unit}" for service in SERVICES),
]
# Without connections of the inventory's there is no file of them, without a proxy none of it.
STATE = f"cat {' '.join(_INPUTS)} 2>/dev/null | sha256sum"
REMEMBER = f"{STATE} > {PASSED}"


@deploy("Smoke test")
def prove(settings: Settings) -> None:
    """A task ran as a pod with the host as it is now, unless a setting turned the test off."""
    if not settings.airflow_smoke_test:
        return
    files.template(
        name="Write the command airflow-smoke-test",
        src=f"files{COMMAND}.j2",
        dest=COMMAND,
        mode="755",
        settings=settings,
        web_url=settings.web_url,
        bundle=bundle_of_own(settings),
        password_file=ADMIN_PASSWORD,
        log_place=logs.place(settings),
    )
    settled(
        name="Run a tiny DAG as a pod (about 10 s)",
        test=f'test "$({STATE})" = "$(cat {PASSED})"',
        commands=[COMMAND, REMEMBER],
        because="it ran with the host as it is",
    )
