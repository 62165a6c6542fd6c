"""The proof that it all works: a tiny DAG run as a pod, once for each state of the inputs."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.airflow import ADMIN_PASSWORD, CONFIG, POD_TEMPLATE
from tasks.kubernetes import KUBECONFIG
from tasks.operations import settled
from tasks.services import SERVICES, UNITS_DIRECTORY, web_url
from tasks.settings import MEMORY, Settings

COMMAND = "/usr/local/bin/airflow-smoke-test"
PASSED = f"{MEMORY}/smoke-test-passed"


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
        web_url=web_url(settings),
        password_file=ADMIN_PASSWORD,
    )
    units = [f"{UNITS_DIRECTORY}/{service.unit}" for service in SERVICES]
    state = f"cat {' '.join([CONFIG, POD_TEMPLATE, KUBECONFIG, *units])} | sha256sum"
    settled(
        name="Run a tiny DAG as a pod (about 10 s)",
        test=f'test "$({state})" = "$(cat {PASSED})"',
        commands=[COMMAND, f"{state} > {PASSED}"],
        because="it ran with the host as it is",
    )
