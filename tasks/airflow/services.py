"""Airflow's four services as systemd units, grouped by airflow.target.

A unit is restarted when it does not run with its inputs as they are: as it starts, it records the
checksums of the files it reads, and the deploy compares. So a deploy that was killed between
writing a file and restarting a unit is healed by the next one.
"""

from __future__ import annotations

from typing import NamedTuple

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.layout import (
    CONFIG,
    CONTROL_USER,
    DAGS_USER,
    HOMES,
    KUBECONFIG,
    OBJECTS,
    SECRETS,
    STARTED_WITH,
    STOP_SCHEDULER,
    TRIGGERERS_KUBECONFIG,
    UNITS_DIRECTORY,
)
from tasks.lib.operations import settled
from tasks.lib.systemd import runs_with_inputs
from tasks.settings import HostSettings
from tasks.worker import git


class Service(NamedTuple):
    """A component of Airflow as a unit."""

    name: str
    command: str
    description: str
    user: str
    secrets: tuple[str, ...]  # which of the secrets it is given
    after: tuple[str, ...] = ("airflow-api-server.service",)
    stop_seconds: int = 30

    @property
    def unit(self) -> str:
        """The unit's name."""
        return f"airflow-{self.name}.service"


# In the order in which they start. Who is given which secret:
# https://airflow.apache.org/docs/apache-airflow/3.3.2/security/security_model.html
SERVICES = (
    Service(
        name="api-server",
        command="api-server",
        description="web page, REST API and Execution API",
        user=CONTROL_USER,
        secrets=("fernet-key", "jwt-secret", "api-secret-key"),
        after=(),
    ),
    Service(
        name="scheduler",
        # The log server is for tasks on the host, whose logs the web page reads from the folder.
        command="scheduler --skip-serve-logs",
        description="scheduler",
        user=CONTROL_USER,
        secrets=("fernet-key", "jwt-secret", "api-secret-key"),
    ),
    Service(
        name="dag-processor",
        command="dag-processor",
        description="DAG processor",
        user=DAGS_USER,
        secrets=("fernet-key",),
    ),
    Service(
        name="triggerer",
        # Its own log server is for api-servers on other hosts, and costs 100 MB.
        command="triggerer --skip-serve-logs",
        description="triggerer",
        user=DAGS_USER,
        secrets=("fernet-key", "api-secret-key"),
    ),
)
UNITS = ["airflow.target", *(service.unit for service in SERVICES)]


def inputs(service: Service, settings: HostSettings) -> list[str]:
    """The files that a running unit must have started with."""
    # Who reads and writes logs keeps a store's credentials as long as it runs.
    keeps_connection = service.name in ("api-server", "triggerer") and settings.logs.s3
    return [
        f"{UNITS_DIRECTORY}/{service.unit}",
        CONFIG,
        *kubeconfig(service, settings),
        *(f"{SECRETS}/{name}" for name in service.secrets),
        *(_inputs_of_dags(settings) if service.name == "dag-processor" else []),
        *([OBJECTS] if keeps_connection and settings.airflow.connections else []),
    ]


def kubeconfig(service: Service, settings: HostSettings) -> list[str]:
    """With which file it reaches the cluster, if it has to."""
    if service.user == CONTROL_USER:
        return [KUBECONFIG]
    follows_pods = service.name == "triggerer" and settings.kubernetes.pod_operator
    return [TRIGGERERS_KUBECONFIG] if follows_pods else []


def _read_folders(service: Service, settings: HostSettings) -> list[str]:
    """Folders outside of the unit's own places that it reads DAGs from."""
    claim = settings.dags.claim
    parses = service.name == "dag-processor" or (
        service.name == "scheduler" and settings.airflow.tasks_on_host
    )
    return [claim.host_path] if claim and parses else []


def written_folders(settings: HostSettings) -> list[str]:
    """Folders outside of the units' own places that they write to."""
    return [settings.logs.claim.host_path] if settings.logs.claim else []


def _inputs_of_dags(settings: HostSettings) -> list[str]:
    """Changes of these the dag-processor would notice late or never."""
    return [
        *([layout.IMAGE_DAGS_NAME] if settings.dags.source == "image" else []),
        *([layout.GIT_CONNECTIONS] if git.connections(settings) else []),
    ]


def is_healthy(settings: HostSettings) -> str:
    """Shell test whether all of Airflow is; its answer stays in $h."""
    components = ("metadatabase", "scheduler", "dag_processor", "triggerer")
    # The answer is always 200: what counts is the JSON.
    return f"h=$(curl -fsS -m 10 {settings.web.local_url}/api/v2/monitor/health) && " + " && ".join(
        f'echo "$h" | grep -q \'"{name}":{{"status":"healthy"\'' for name in components
    )


def becomes_healthy(settings: HostSettings) -> str:
    """Shell test whether all of Airflow is healthy within a minute; its last answer stays in $h."""
    return (
        f"for i in $(seq 60); do {{ {is_healthy(settings)}; }} 2>/dev/null && break;"
        " test $i -lt 60 && sleep 1; done"
    )


@deploy("Services")
def run(settings: HostSettings) -> None:
    """Every service runs with the inputs that are on the host now, and Airflow is healthy."""
    _write_units(settings)
    for service in SERVICES:
        settled(
            name=f"Run {service.unit.removesuffix('.service')}",
            test=runs_with_inputs(service.unit),
            commands=[
                f"systemctl reset-failed {service.unit} 2>/dev/null;"
                f" systemctl restart {service.unit} ||"
                f" {{ journalctl -u {service.unit} -n 30 -o cat --no-pager; exit 1; }}"
            ],
            because="it runs with its inputs as they are",
        )
    settled(
        name="Run airflow.target",  # a target that is not active can't stop its units
        test='test "$(systemctl is-active airflow.target)" = active',
        commands=["systemctl start airflow.target"],
        because="it is active",
    )
    settled(
        name="Wait until Airflow is healthy",
        test=is_healthy(settings),
        commands=[
            f"{becomes_healthy(settings)} || {{"
            ' echo "Airflow is not healthy after a minute: $h"'
            " \"Look at: journalctl -u 'airflow-*' -n 100\" >&2; exit 1; }"
        ],
        because="all components are",
    )


def _write_units(settings: HostSettings) -> None:
    files.put(
        name="Write airflow.target",
        src=f"files{UNITS_DIRECTORY}/airflow.target",
        dest=f"{UNITS_DIRECTORY}/airflow.target",
        mode="644",
    )
    files.put(
        name="Write what stops the scheduler",
        src=f"files{STOP_SCHEDULER}",
        dest=STOP_SCHEDULER,
        mode="755",
    )
    for service in SERVICES:
        files.template(
            name=f"Write {service.unit}",
            src=f"files{UNITS_DIRECTORY}/airflow.service.j2",
            dest=f"{UNITS_DIRECTORY}/{service.unit}",
            mode="644",
            service=service,
            settings=settings,
            config=CONFIG,
            home=HOMES[service.user],
            kubeconfig=kubeconfig(service, settings),
            secrets_directory=SECRETS,
            started_with=STARTED_WITH,
            stop_scheduler=STOP_SCHEDULER,
            inputs=inputs(service, settings),
            folders=written_folders(settings),
            read_folders=_read_folders(service, settings),
            ready_url=f"{settings.web.local_url}/execution/health",
        )
    units = " ".join(UNITS)
    settled(
        name="Make systemd load and enable the units",
        test=f"! systemctl show -P NeedDaemonReload {units} minikube.service | grep -q yes"
        f' && test "$(systemctl is-enabled {units} | grep -cx enabled)" = {len(UNITS)}',
        commands=["systemctl daemon-reload", f"systemctl enable --quiet {units}"],
        because="systemd knows them as they are",
    )
