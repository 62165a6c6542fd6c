"""Airflow's four services as systemd units, grouped by airflow.target.

The units are files in files/etc/systemd/system. A service that needs more from the settings than
systemd can read from a file has a drop-in with the values of this host. The deploy writes it only
now, so a running service keeps its version while the next one is prepared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pyinfra.api import deploy

from tasks import layout
from tasks.airflow import timers
from tasks.host import database
from tasks.layout import (
    CONFIG,
    CONTROL_USER,
    DAGS_USER,
    HOST_DROP_IN,
    KUBECONFIG,
    LOGIN_CONFIG,
    LOOPBACK,
    OBJECTS,
    ROOT,
    SECRETS,
    TRIGGERERS_KUBECONFIG,
    UNITS_DIRECTORY,
    WEB_SOCKET,
)
from tasks.lib import members, systemd
from tasks.lib.operations import Source, ensure, run_unless, synced_folder
from tasks.lib.templates import compiled
from tasks.settings import HostSettings
from tasks.worker import git, image

FILES = ROOT / "files" / UNITS_DIRECTORY.lstrip("/")
ONE_ACTIVE = f"{layout.LIB}/one-active.py"

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


class Service(NamedTuple):
    """A component of Airflow that has a unit."""

    name: str
    user: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the keys that it holds."""
        return tuple(NEEDED[self.name])

    @property
    def unit(self) -> str:
        """The unit's name."""
        return f"airflow-{self.name}.service"

    @property
    def drop_in(self) -> str:
        """The path of the drop-in with the values of this host."""
        return f"{UNITS_DIRECTORY}/{self.unit}.d/{HOST_DROP_IN}"


# In the order in which they start.
SERVICES = (
    Service("api-server", CONTROL_USER),
    Service("scheduler", CONTROL_USER),
    Service("dag-processor", DAGS_USER),
    Service("triggerer", DAGS_USER),
)


def inputs(service: Service, settings: HostSettings) -> list[str]:
    """The files that a running unit must have started with."""
    # A service that reads or writes logs keeps the credentials of their store as long as it runs.
    keeps_connection = service.name in ("api-server", "triggerer") and settings.logs.s3
    return [
        f"{UNITS_DIRECTORY}/{service.unit}",
        layout.SANDBOX,
        *(f"{UNITS_DIRECTORY}/{name}" for name in _drop_ins(service.unit)),
        service.drop_in,
        CONFIG,
        *layout.GUARDS,
        # Airflow loads plugins once.
        *([layout.PLUGINS_RECORD] if settings.plugins.local_folder else []),
        *([layout.DAGS_ENV] if _runs_dags(service, settings) else []),
        *kubeconfig(service, settings),
        *(f"{SECRETS}/{name}" for name in service.secrets),
        *(_inputs_of_dags(settings) if service.name == "dag-processor" else []),
        *([ONE_ACTIVE] if _stands_by(service, settings) else []),
        *([LOGIN_CONFIG] if service.name == "api-server" and settings.web.login_config else []),
        *([OBJECTS] if keeps_connection and settings.airflow.connections else []),
    ]


def kubeconfig(service: Service, settings: HostSettings) -> list[str]:
    """The file with which a service reaches the cluster, if it has to."""
    if service.user == CONTROL_USER:
        return [KUBECONFIG]
    follows_pods = service.name == "triggerer" and settings.kubernetes.pod_operator
    return [TRIGGERERS_KUBECONFIG] if follows_pods else []


def _stands_by(service: Service, settings: HostSettings) -> bool:
    """Whether a service runs on one of several hosts only, while those of the others wait."""
    return service.name == "dag-processor" and bool(settings.members)


def _runs_tasks(service: Service, settings: HostSettings) -> bool:
    return service.name == "scheduler" and settings.airflow.tasks_on_host


def _runs_dags(service: Service, settings: HostSettings) -> bool:
    """Whether a service runs the code of DAGs."""
    return service.user == DAGS_USER or _runs_tasks(service, settings)


def _inputs_of_dags(settings: HostSettings) -> list[str]:
    """Files that the dag-processor does not read again in time when they change."""
    return [
        *([layout.IMAGE_DAGS_NAME] if settings.dags.source == "image" else []),
        *([layout.GIT_CONNECTIONS] if git.connections(settings) else []),
    ]


@deploy("Services")
def run(settings: HostSettings) -> None:
    """Every service runs with the inputs that are on the host now, and Airflow is healthy."""
    # A timer that the settings no longer want must stop while its unit is still there.
    timers.remove_unwanted(settings)
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
    if settings.members:
        members.agree(name="Compare configuration and packages with the first host's")
        members.ensure_in_turn(
            name="Run Airflow, one host after the other",
            program="services.sh",
            already="it runs with its inputs as they are, and is healthy",
        )
        return
    for service in SERVICES:
        systemd.run(service.unit)
    systemd.run(WEB_SOCKET)  # after the api-server, which had its port in an earlier version
    run_unless(
        name="Start airflow.target",  # an inactive target can't stop its units
        test='test "$(systemctl is-active airflow.target)" = active',
        commands=["systemctl start airflow.target"],
        already="it is active",
    )
    ensure(
        name="Wait until Airflow is healthy",
        program="health.py",
        already="all components are",
    )


def units(settings: HostSettings) -> dict[str, Source]:
    """The files of all units, by their path in systemd's folder."""
    of_timers = [unit for name in timers.wanted(settings) for unit in timers.units(name)]
    names = [*layout.UNITS, *layout.WEB_SOCKET_UNITS, *of_timers]
    # The drop-ins come first: a unit without its own has no program.
    found: dict[str, Source] = {
        "airflow-.service.d/10-sandbox.conf": FILES / "airflow-.service.d/10-sandbox.conf",
        **{
            f"airflow-{name}.service.d/{HOST_DROP_IN}": text
            for name, text in _host_drop_ins(settings)
            if f"airflow-{name}.service" in names
        },
    }
    listen = compiled(FILES / f"{WEB_SOCKET}.d/{HOST_DROP_IN}.j2")
    for unit, address in {WEB_SOCKET: LOOPBACK, "airflow-web6.socket": "[::1]"}.items():
        found[f"{unit}.d/{HOST_DROP_IN}"] = listen.render(address=address, port=settings.web.port)
    for unit in names:
        found |= _drop_ins(unit)
    return found | {unit: FILES / unit for unit in names}


def _drop_ins(unit: str) -> dict[str, Source]:
    """A unit's drop-ins that are the same on all hosts, by their path in systemd's folder."""
    paths = sorted((FILES / f"{unit}.d").glob("*.conf"))
    return {f"{unit}.d/{path.name}": path for path in paths}


def _host_drop_ins(settings: HostSettings) -> Iterator[tuple[str, str]]:
    """The drop-ins with the values of this host, by the names of their services."""
    for service in SERVICES:
        yield service.name, _render(**_of_service(service, settings))
    yield (
        "liveness",
        _render(
            environment={"WEB_URL": settings.web.local_url},
            asks_database=bool(settings.members),
        ),
    )
    yield "cleanup-pods", _render(venv=settings.venv)
    # A missed timer fires at boot, maybe before PostgreSQL runs.
    after = _before_database(settings)
    yield "cleanup-history", _render(after=after, venv=settings.venv)
    yield "backup", _render(after=after, reaches_out=not settings.postgres.is_debians)
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
    environment = {"INPUTS": " ".join(inputs(service, settings)), **settings.proxy_environment()}
    if service.user == DAGS_USER:
        environment |= database.urls_of_dags(settings)
    if service.name == "api-server":
        environment["WEB_URL"] = settings.web.local_url
        environment["API_SERVER_OPTIONS"] = "--proxy-headers" if settings.web.is_public else ""
    if service.name == "triggerer" and settings.kubernetes.pod_operator:
        environment["KUBECONFIG"] = TRIGGERERS_KUBECONFIG
    runs_tasks = _runs_tasks(service, settings)
    claim = settings.dags.claim
    return {
        "after": [
            *_before_database(settings),
            *(["minikube.service"] if settings.kubernetes.uses_minikube else []),
        ],
        "venv": settings.venv,
        "environment": environment,
        "command": f"{ONE_ACTIVE} airflow dag-processor" if _stands_by(service, settings) else "",
        "runs_tasks": runs_tasks,
        "dags_env": layout.DAGS_ENV,
        "written_folders": settings.written_folders,
        "read_folders": (
            [claim.host_path] if claim and (service.name == "dag-processor" or runs_tasks) else []
        ),
    }


def _before_database(settings: HostSettings) -> list[str]:
    """The units without which the database can't be reached."""
    return ["postgresql.service" if settings.postgres.is_debians else "network-online.target"]


def _render(**values: object) -> str:
    nothing: dict[str, object] = {"after": [], "venv": "", "environment": {}}
    nothing |= {"runs_tasks": False, "reaches_out": False, "asks_database": False, "command": ""}
    nothing |= {"written_folders": [], "read_folders": []}
    template = compiled(FILES / f"airflow-.service.d/{HOST_DROP_IN}.j2")
    return template.render({**nothing, **values})
