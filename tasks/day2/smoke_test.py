"""The proof that it all works: a tiny DAG run as a pod, once for each state of the inputs."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.airflow.services import SERVICES
from tasks.layout import (
    ADMIN_PASSWORD,
    CONFIG,
    KUBECONFIG,
    OBJECTS,
    POD_TEMPLATE,
    SMOKE_TEST,
    SMOKE_TEST_PASSED,
    UNITS_DIRECTORY,
)
from tasks.lib.operations import settled
from tasks.settings import HostSettings
from tasks.worker import logs
from tasks.worker.dags import bundle_of_own

_INPUTS = [
    *(CONFIG, POD_TEMPLATE, KUBECONFIG, OBJECTS, layout.NGINX_SITE, layout.AUTHORITY),
    layout.SANDBOX,
    *(f"{UNITS_DIRECTORY}/{service.unit}" for service in SERVICES),
    *(service.drop_in for service in SERVICES),
]
# Without connections of the inventory's there is no file of them, without a proxy none of it.
SEEN = f"cat {' '.join(_INPUTS)} 2>/dev/null | sha256sum"
REMEMBER = f"{SEEN} > {SMOKE_TEST_PASSED}"


@deploy("Smoke test")
def run(settings: HostSettings) -> None:
    """A task ran as a pod with the host as it is now, unless a setting turned the test off."""
    if not settings.airflow.smoke_test:
        return
    files.template(
        name="Write the command airflow-smoke-test",
        src=f"files{SMOKE_TEST}.j2",
        dest=SMOKE_TEST,
        mode="755",
        settings=settings,
        web_url=settings.web.local_url,
        bundle=bundle_of_own(settings),
        password_file=ADMIN_PASSWORD,
        log_place=logs.place(settings),
    )
    settled(
        name="Run a tiny DAG as a pod (about 10 s)",
        test=f'test "$({SEEN})" = "$(cat {SMOKE_TEST_PASSED})"',
        commands=[SMOKE_TEST, REMEMBER],
        because="it ran with the host as it is",
    )
