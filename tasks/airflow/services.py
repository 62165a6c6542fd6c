"""Airflow's four services as systemd units, grouped by airflow.target.

The units are files in files/etc/systemd/system. A service of which the settings decide more than
systemd can read from a file has a drop-in with the values of this host. The deploy writes it only
now, so a running service keeps its version while the next one is prepared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from pyinfra.api import deploy

from tasks import layout
from tasks.airflow import timers
from tasks.layout import (
    CONFIG,
    CONTROL_USER,
    DAGS_USER,
    HOST_DROP_IN,
    KUBECONFIG,
    OBJECTS,
    ROOT,
    SECRETS,
    TRIGGERERS_KUBECONFIG,
    UNITS_DIRECTORY,
)
from tasks.lib import systemd
from tasks.lib.operations import Source, ensure, run_unless, synced_folder
from tasks.settings import HostSettings
from tasks.worker import git, image

FILES = ROOT / "files" / UNITS_DIRECTORY.lstrip("/")


class Service(NamedTuple):
    """A component of Airflow that has a unit."""

    name: str
    user: str
    secrets: tuple[str, ...]

    @property
    def unit(self) -> str:
        """The unit's name."""
        return f"airflow-{self.name}.service"

    @property
    def drop_in(self) -> str:
        """The path of the drop-in with the values of this host."""
        return f"{UNITS_DIRECTORY}/{self.unit}.d/{HOST_DROP_IN}"


# In the order in which they start. Which service needs which secret:
# https://airflow.apache.org/docs/apache-airflow/3.3.2/security/security_model.html
SERVICES = (
    Service("api-server", CONTROL_USER, ("fernet-key", "jwt-secret", "api-secret-key")),
    Service("scheduler", CONTROL_USER, ("fernet-key", "jwt-secret", "api-secret-key")),
    Service("dag-processor", DAGS_USER, ("fernet-key",)),
    Service("triggerer", DAGS_USER, ("fernet-key", "api-secret-key")),
)


def inputs(service: Service, settings: HostSettings) -> list[str]:
    """The files that a running unit must have started with."""
    # A service that reads or writes logs keeps the credentials of their store as long as it runs.
    keeps_connection = service.name in ("api-server", "triggerer") and settings.logs.s3
    return [
        f"{UNITS_DIRECTORY}/{service.unit}",
        layout.SANDBOX,
        service.drop_in,
        CONFIG,
        layout.POLICY,
        *kubeconfig(service, settings),
        *(f"{SECRETS}/{name}" for name in service.secrets),
        *(_inputs_of_dags(settings) if service.name == "dag-processor" else []),
        *([OBJECTS] if keeps_connection and settings.airflow.connections else []),
    ]


def kubeconfig(service: Service, settings: HostSettings) -> list[str]:
    """The file with which a service reaches the cluster, if it has to."""
    if service.user == CONTROL_USER:
        return [KUBECONFIG]
    follows_pods = service.name == "triggerer" and settings.kubernetes.pod_operator
    return [TRIGGERERS_KUBECONFIG] if follows_pods else []


def _inputs_of_dags(settings: HostSettings) -> list[str]:
    """Files whose changes the dag-processor would notice late or never."""
    return [
        *([layout.IMAGE_DAGS_NAME] if settings.dags.source == "image" else []),
        *([layout.GIT_CONNECTIONS] if git.connections(settings) else []),
    ]


@deploy("Services")
def run(settings: HostSettings) -> None:
    """Every service runs with the inputs that are on the host now, and Airflow is healthy."""
    synced_folder(
        name="Install the units",
        sources=units(settings),
        dest=UNITS_DIRECTORY,
        record=layout.UNITS_RECORD,
        accept=f"{layout.ACCEPT} units",
    )
    systemd.load(
        name="Make systemd load and enable the units",
        kind="services",
        already="systemd has read them as they are on the disk",
    )
    for service in SERVICES:
        systemd.run(service.unit)
    run_unless(
        name="Run airflow.target",  # an inactive target can't stop its units
        test='test "$(systemctl is-active airflow.target)" = active',
        commands=["systemctl start airflow.target"],
        already="it is active",
    )
    ensure(
        name="Wait until Airflow is healthy",
        program="health.sh",
        already="all components are",
    )


def units(settings: HostSettings) -> dict[str, Source]:
    """The files of all units, by their path in systemd's folder."""
    of_timers = [unit for name in timers.wanted(settings) for unit in timers.units(name)]
    names = [*layout.UNITS, *of_timers]
    # The drop-ins come first: a unit without its own has no program.
    found: dict[str, Source] = {
        "airflow-.service.d/10-sandbox.conf": FILES / "airflow-.service.d/10-sandbox.conf",
        **{
            f"airflow-{name}.service.d/{HOST_DROP_IN}": text
            for name, text in _host_drop_ins(settings)
            if f"airflow-{name}.service" in names
        },
    }
    for unit in names:
        for drop_in in sorted((FILES / f"{unit}.d").glob("*.conf")):
            found[f"{unit}.d/{drop_in.name}"] = drop_in
    return found | {unit: FILES / unit for unit in names}


def _host_drop_ins(settings: HostSettings) -> Iterator[tuple[str, str]]:
    """The drop-ins with the values of this host, by the names of their services."""
    for service in SERVICES:
        yield service.name, _render(**_of_service(service, settings))
    yield "liveness", _render(environment={"WEB_URL": settings.web.local_url})
    yield "cleanup-pods", _render(venv=settings.venv)
    yield "cleanup-history", _render(venv=settings.venv)
    if settings.written_folders:
        yield "cleanup-logs", _render(written_folders=settings.written_folders)
    yield (
        "cleanup-images",
        _render(
            environment={
                "IMAGES_KEPT": str(settings.retention.worker_images),
                "WORKER_IMAGE": image.reference(settings),
            }
        ),
    )


def _of_service(service: Service, settings: HostSettings) -> dict[str, object]:
    environment = {"INPUTS": " ".join(inputs(service, settings))}
    if service.name == "api-server":
        environment["WEB_URL"] = settings.web.local_url
        environment["API_SERVER_OPTIONS"] = "--proxy-headers" if settings.web.is_public else ""
    if service.name == "triggerer" and settings.kubernetes.pod_operator:
        environment["KUBECONFIG"] = TRIGGERERS_KUBECONFIG
    runs_tasks = service.name == "scheduler" and settings.airflow.tasks_on_host
    claim = settings.dags.claim
    return {
        "after": ["minikube.service"] if settings.kubernetes.uses_minikube else [],
        "venv": settings.venv,
        "environment": environment,
        "runs_tasks": runs_tasks,
        "written_folders": settings.written_folders,
        "read_folders": (
            [claim.host_path] if claim and (service.name == "dag-processor" or runs_tasks) else []
        ),
    }


def _render(**values: object) -> str:
    nothing = {"after": [], "venv": "", "environment": {}, "runs_tasks": False}
    nothing |= {"written_folders": [], "read_folders": []}
    template = (FILES / f"airflow-.service.d/{HOST_DROP_IN}.j2").read_text()
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template).render({**nothing, **values})
